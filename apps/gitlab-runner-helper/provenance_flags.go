package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// provenanceSchema is the one version of SLSA's predicate that is written.
const provenanceSchema = "v1"

// provenanceFlags ask for a file about where the artifacts come from.
func provenanceFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "generate-artifacts-metadata", Usage: "add a file that says where the artifacts come from"},
		&cli.Int64Flag{Name: "runner-id", Usage: "GitLab's id of the runner"},
		&cli.StringFlag{Name: "runner-name"},
		&cli.StringFlag{Name: "executor-name"},
		&cli.StringFlag{Name: "job-name"},
		&cli.StringFlag{Name: "repo-url", Usage: "URL of the project"},
		&cli.StringFlag{Name: "repo-digest", Usage: "commit of the job"},
		&cli.StringFlag{Name: "started-at", Usage: "when the job began, as in 2026-01-02T15:04:05Z"},
		&cli.StringFlag{Name: "ended-at", Usage: "when the job ended"},
		&cli.StringFlag{Name: "schema-version", Usage: "version of SLSA's predicate", Value: provenanceSchema},
		&cli.StringSliceFlag{Name: "metadata-parameter", Usage: "name of a variable of the job"},
	}
}

// provenanceOf is what the flags tell, nil if nothing is asked for.
func provenanceOf(cmd *cli.Command) (*plan.Provenance, error) {
	if !cmd.Bool("generate-artifacts-metadata") {
		return nil, nil
	}
	if schema := cmd.String("schema-version"); schema != provenanceSchema {
		return nil, fmt.Errorf("--schema-version %q is not known: use %s", schema, provenanceSchema)
	}
	began, err1 := moment(cmd, "started-at")
	ended, err2 := moment(cmd, "ended-at")
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &plan.Provenance{
		RunnerID:       cmd.Int64("runner-id"),
		RunnerName:     cmd.String("runner-name"),
		RunnerRevision: version.Get().Revision,
		Executor:       cmd.String("executor-name"),
		JobName:        cmd.String("job-name"),
		RepoURL:        cmd.String("repo-url"),
		RepoDigest:     cmd.String("repo-digest"),
		StartedAt:      began,
		EndedAt:        ended,
		Parameters:     cmd.StringSlice("metadata-parameter"),
	}, nil
}

func moment(cmd *cli.Command, flag string) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, cmd.String(flag))
	if err != nil {
		return time.Time{}, fmt.Errorf("--%s %q is not a time like 2026-01-02T15:04:05Z", flag, cmd.String(flag))
	}
	return at.UTC(), nil
}
