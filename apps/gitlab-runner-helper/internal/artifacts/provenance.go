package artifacts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/archive"
)

// The forms of a statement about the origin of artifacts: in-toto, with SLSA's predicate of version 1.
const (
	statementType = "https://in-toto.io/Statement/v0.1"
	predicateType = "https://slsa.dev/provenance/v1"
	buildType     = "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/%s/PROVENANCE.md"
)

type statement struct {
	Type          string    `json:"_type"`
	PredicateType string    `json:"predicateType"`
	Subject       []subject `json:"subject"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType            string            `json:"buildType"`
	ExternalParameters   map[string]string `json:"externalParameters"`
	InternalParameters   map[string]string `json:"internalParameters"`
	ResolvedDependencies []dependency      `json:"resolvedDependencies"`
}

type dependency struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

type runDetails struct {
	Builder struct {
		ID      string            `json:"id"`
		Version map[string]string `json:"version"`
	} `json:"builder"`
	Metadata struct {
		InvocationID string `json:"invocationID"`
		StartedOn    string `json:"startedOn"`
		FinishedOn   string `json:"finishedOn"`
	} `json:"metadata"`
}

// writeProvenance writes, beside the artifacts, where they come from, and returns the file's name and how it is
// removed.
func (t *Transfer) writeProvenance(ctx context.Context, a plan.ArtifactUpload, names []string) (string, func(), error) {
	told := describe(a)
	for _, name := range names {
		digest, err := t.digest(ctx, name)
		if err != nil {
			return "", nil, err
		}
		if digest != "" {
			told.Subject = append(told.Subject, subject{Name: name, Digest: map[string]string{"sha256": digest}})
		}
	}
	text, err := json.MarshalIndent(told, "", " ")
	if err != nil {
		return "", nil, err
	}
	file := strings.TrimSuffix(t.baseName(a.Name, archive.Zip), ".zip") + "-metadata.json"
	// A file of the user's with that name is neither replaced nor removed.
	f, err := t.Root.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", nil, fmt.Errorf("writing %s: %w", file, err)
	}
	remove := func() { removeQuietly(t.Console, t.Root, file) }
	_, err = f.Write(text)
	if err := errors.Join(err, f.Close()); err != nil {
		remove()
		return "", nil, fmt.Errorf("writing %s: %w", file, err)
	}
	return file, remove, nil
}

func removeQuietly(c *console.Console, root *os.Root, file string) {
	if err := root.Remove(file); err != nil {
		c.Warning("WARNING: %v", err)
	}
}

// describe is a statement without its subjects.
func describe(a plan.ArtifactUpload) statement {
	p := a.Provenance
	told := statement{Type: statementType, PredicateType: predicateType, Subject: []subject{}}
	told.Predicate.BuildDefinition = buildDefinition{
		BuildType:          fmt.Sprintf(buildType, p.RunnerRevision),
		ExternalParameters: map[string]string{},
		InternalParameters: map[string]string{
			"architecture": runtime.GOARCH, "executor": p.Executor, "name": p.RunnerName, "job": strconv.FormatInt(a.JobID, 10),
		},
		ResolvedDependencies: []dependency{{URI: p.RepoURL, Digest: map[string]string{"sha256": p.RepoDigest}}},
	}
	// The names of variables are told, their values are not.
	for _, name := range p.Parameters {
		told.Predicate.BuildDefinition.ExternalParameters[name] = ""
	}
	told.Predicate.BuildDefinition.ExternalParameters["entryPoint"] = p.JobName
	told.Predicate.BuildDefinition.ExternalParameters["source"] = p.RepoURL
	details := &told.Predicate.RunDetails
	details.Builder.ID = p.RepoURL + "/-/runners/" + strconv.FormatInt(p.RunnerID, 10)
	details.Builder.Version = map[string]string{"gitlab-runner": p.RunnerRevision}
	details.Metadata.InvocationID = strconv.FormatInt(a.JobID, 10)
	details.Metadata.StartedOn = p.StartedAt.Format(time.RFC3339)
	details.Metadata.FinishedOn = p.EndedAt.Format(time.RFC3339)
	return told
}

// digest is the SHA-256 of a file, empty for what is none.
func (t *Transfer) digest(ctx context.Context, name string) (string, error) {
	info, err := t.Root.Lstat(path.Clean(name))
	if err != nil || !info.Mode().IsRegular() {
		return "", err
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	file, err := t.Root.Open(path.Clean(name))
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
