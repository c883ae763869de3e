package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/artifacts"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

func coordinatorFlags() []cli.Flag {
	return append(transferFlags(),
		&cli.StringFlag{Name: "url", Usage: "GitLab's URL", Required: true, Sources: cli.EnvVars("CI_SERVER_URL")},
		&cli.Int64Flag{Name: "id", Usage: "the job's id", Required: true, Sources: cli.EnvVars("CI_JOB_ID")},
		&cli.StringFlag{Name: "token", Usage: "the job's token", Required: true, Sources: cli.EnvVars("CI_JOB_TOKEN")},
		&cli.StringFlag{Name: "tls-ca-file", Sources: cli.EnvVars("CI_SERVER_TLS_CA_FILE")},
		&cli.StringFlag{Name: "tls-cert-file", Sources: cli.EnvVars("CI_SERVER_TLS_CERT_FILE")},
		&cli.StringFlag{Name: "tls-key-file", Sources: cli.EnvVars("CI_SERVER_TLS_KEY_FILE")},
	)
}

func artifactsUploaderCommand(c *console.Console) *cli.Command {
	return &cli.Command{
		Name:  "artifacts-uploader",
		Usage: "pack files and upload them as artifacts of a job",
		Flags: append(slices.Concat(coordinatorFlags(), fileFlags(), provenanceFlags()),
			&cli.StringFlag{Name: "name", Usage: "name of the archive", Value: "artifacts"},
			&cli.StringFlag{Name: "expire-in", Usage: "when GitLab removes them"},
			&cli.StringFlag{Name: "artifact-format", Usage: "zip, gzip, raw, zipzstd or tarzstd"},
			&cli.StringFlag{Name: "artifact-type"},
			&cli.StringFlag{Name: "compression-level", Sources: cli.EnvVars("ARTIFACT_COMPRESSION_LEVEL")},
			&cli.BoolFlag{Name: "ci-debug-trace", Usage: "show GitLab's answers", Sources: cli.EnvVars("CI_DEBUG_TRACE")},
			&cli.DurationFlag{Name: "timeout", Value: time.Hour},
			&cli.DurationFlag{Name: "response-header-timeout", Value: 10 * time.Minute},
		),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			provenance, err := provenanceOf(cmd)
			if err != nil {
				return err
			}
			p, transfer, err := openTransfer(c, cmd)
			if err != nil {
				return err
			}
			defer p.close()
			return transfer.Upload(ctx, plan.ArtifactUpload{
				JobID: cmd.Int64("id"), Token: cmd.String("token"),
				Name:                         cmd.String("name"),
				Paths:                        cmd.StringSlice("path"),
				Exclude:                      cmd.StringSlice("exclude"),
				Untracked:                    cmd.Bool("untracked"),
				ExpireIn:                     cmd.String("expire-in"),
				Type:                         cmd.String("artifact-type"),
				Format:                       cmd.String("artifact-format"),
				CompressionLevel:             cmd.String("compression-level"),
				TimeoutSeconds:               int(cmd.Duration("timeout").Seconds()),
				ResponseHeaderTimeoutSeconds: int(cmd.Duration("response-header-timeout").Seconds()),
				LogResponses:                 cmd.Bool("ci-debug-trace"),
				Verbose:                      cmd.Bool("verbose"),
				Provenance:                   provenance,
			})
		},
	}
}

func artifactsDownloaderCommand(c *console.Console) *cli.Command {
	return &cli.Command{
		Name:  "artifacts-downloader",
		Usage: "download the artifacts of a job and unpack them",
		Flags: append(coordinatorFlags(),
			&cli.BoolFlag{Name: "direct-download", Usage: "let GitLab send us on to its object storage", Sources: cli.EnvVars("FF_USE_DIRECT_DOWNLOAD")},
			&cli.StringFlag{Name: "archiver-staging-dir", Usage: "directory for the archive until it is unpacked", Sources: cli.EnvVars("ARCHIVER_STAGING_DIR")},
		),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			p, transfer, err := openTransfer(c, cmd)
			if err != nil {
				return err
			}
			defer p.close()
			id := cmd.Int64("id")
			return transfer.Download(ctx, plan.ArtifactDownload{
				Name: fmt.Sprintf("job %d", id), JobID: id, Token: cmd.String("token"),
				DirectDownload: cmd.Bool("direct-download"),
			})
		},
	}
}

func openTransfer(c *console.Console, cmd *cli.Command) (*project, *artifacts.Transfer, error) {
	p, err := openProject(c)
	if err != nil {
		return nil, nil, err
	}
	staging := cmd.String("archiver-staging-dir")
	if staging == "" {
		staging = os.TempDir()
	}
	return p, &artifacts.Transfer{
		Meter: newMeter(c, cmd), Retry: newRetry(cmd),
		Console: c, Root: p.root, Collector: p.collector, Coordinator: newCoordinator(c),
		Workspace: &workspace.Workspace{ProjectDir: p.dir, TmpDir: staging},
		Server: network.JobCredentials{
			URL:         cmd.String("url"),
			TLSCAFile:   cmd.String("tls-ca-file"),
			TLSCertFile: cmd.String("tls-cert-file"),
			TLSKeyFile:  cmd.String("tls-key-file"),
		},
	}, nil
}
