// Package stage does the work of one plan: it prepares the directories and the environment and hands
// the work to the package that knows it.
package stage

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/artifacts"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/cache"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/files"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/git"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/meter"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/retry"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/sources"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

// ErrNeedsParts says that a cache is still to be uploaded: in parts, of which the runner has to tell.
var ErrNeedsParts = errors.New("a cache has to be uploaded in parts")

// Runner does stages.
type Runner struct {
	Console     *console.Console
	Coordinator artifacts.Coordinator
	// Environment is what the plan's variables are added to.
	Environment []string
}

// job is the work of one plan.
type job struct {
	Runner
	plan        *plan.Plan
	workspace   *workspace.Workspace
	environment *process.Environment
}

// Run does what a plan says. A failure of git or of a hook is an error that wraps a
// *process.ExitError, a cache too large for one upload is ErrNeedsParts; when ctx ended first, the error is its cause.
func (r Runner) Run(ctx context.Context, p *plan.Plan) error {
	w, err := workspace.New(p.ProjectDir, p.TmpDir)
	if err != nil {
		return err
	}
	j := &job{Runner: r, plan: p, workspace: w, environment: process.NewEnvironment(r.Environment)}
	if err := j.export(); err != nil {
		return err
	}
	switch {
	case p.Sources != nil:
		return sources.Get(ctx, j.sources(), p.Sources)
	case p.ClearWorktree != nil:
		return sources.Clear(ctx, j.sources())
	case p.Cleanup != nil:
		return sources.CleanUp(ctx, j.sources(), p.Cleanup, p.Variables)
	case len(p.RestoreCaches) > 0, len(p.SaveCaches) > 0:
		return j.caches(ctx)
	case len(p.DownloadArtifacts) > 0, len(p.UploadArtifacts) > 0:
		return j.artifacts(ctx)
	default:
		return fmt.Errorf("the plan of stage %q has no work that this helper knows", p.Stage)
	}
}

// export writes the files of variables and puts all variables into the environment.
func (j *job) export() error {
	files := j.plan.Cleanup == nil && j.plan.ClearWorktree == nil
	if j.plan.Sources != nil {
		// It is the first stage of a job: what earlier ones handed on is not for this one.
		if err := j.workspace.RemoveTmp(workspace.EnvFile); err != nil {
			return err
		}
	}
	for _, v := range j.plan.Variables {
		value := v.Value
		if v.File {
			if !workspace.PlainName(v.Key) {
				return fmt.Errorf("variable %q cannot be a file: its name is not a file's name", v.Key)
			}
			value = j.workspace.Tmp(v.Key)
			if files {
				if err := j.workspace.WriteTmp(v.Key, []byte(v.Value), 0o666); err != nil {
					return err
				}
			}
		}
		if err := j.environment.Set(v.Key, value); err != nil {
			return err
		}
	}
	if err := j.environment.Set("GITLAB_ENV", j.workspace.Tmp(workspace.EnvFile)); err != nil {
		return err
	}
	entries, bad, err := j.workspace.Variables()
	if err != nil {
		return fmt.Errorf("reading the variables of GITLAB_ENV: %w", err)
	}
	if bad > 0 {
		j.Console.Warning("WARNING: %d lines of GITLAB_ENV are not of the form NAME=value and have no effect", bad)
	}
	j.environment.Add(entries)
	if files && entries == nil && bad == 0 {
		return j.workspace.TouchTmp(workspace.EnvFile, 0o666)
	}
	return nil
}

func (j *job) sources() sources.Stage {
	return sources.Stage{Workspace: j.workspace, Console: j.Console, Environment: j.environment, Server: j.plan.Server}
}

// openProject opens the project directory and makes a collector of its files.
func (j *job) openProject() (*os.Root, *files.Collector, error) {
	if err := j.workspace.MakeProject(); err != nil {
		return nil, nil, err
	}
	root, err := os.OpenRoot(j.workspace.ProjectDir)
	if err != nil {
		return nil, nil, fmt.Errorf("opening the project directory: %w", err)
	}
	g := git.New(j.Console, j.environment)
	if err := g.Distrust(j.workspace.ProjectDir); err != nil {
		return nil, nil, errors.Join(err, root.Close())
	}
	return root, &files.Collector{
		Console: j.Console, Dir: j.workspace.ProjectDir, Root: root, Git: g, Lookup: j.environment.Get,
	}, nil
}

func (j *job) caches(ctx context.Context) error {
	root, collector, err := j.openProject()
	if err != nil {
		return err
	}
	defer root.Close()
	c := &cache.Cache{Console: j.Console, Root: root, Collector: collector, Meter: j.meter(), Retry: retry.Default()}
	for _, restore := range j.plan.RestoreCaches {
		if err := c.Restore(ctx, restore); err != nil {
			return err
		}
	}
	var needsParts bool
	for _, save := range j.plan.SaveCaches {
		err := c.Save(ctx, save)
		var large *cache.NeedsPartsError
		if errors.As(err, &large) {
			needsParts = true
			continue
		}
		if err != nil {
			return err
		}
	}
	if needsParts {
		return ErrNeedsParts
	}
	return nil
}

// artifacts downloads in the plan's order up to the first failure. Uploads do not depend on each other:
// each is tried, and the first failure is returned.
func (j *job) artifacts(ctx context.Context) error {
	root, collector, err := j.openProject()
	if err != nil {
		return err
	}
	defer root.Close()
	t := &artifacts.Transfer{
		Console: j.Console, Workspace: j.workspace, Root: root, Collector: collector,
		Coordinator: j.Coordinator, Meter: j.meter(), Retry: retry.Default(), Server: j.server(),
	}
	for _, download := range j.plan.DownloadArtifacts {
		if err := t.Download(ctx, download); err != nil {
			return err
		}
	}
	var first error
	for _, upload := range j.plan.UploadArtifacts {
		err := t.Upload(ctx, upload)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch {
		case err == nil:
		case first == nil:
			first = err
		default:
			j.Console.Error("%v", err)
		}
	}
	return first
}

func (j *job) meter() meter.Meter {
	return meter.Meter{Console: j.Console, Every: j.plan.TransferMeter}
}

func (j *job) server() network.JobCredentials {
	path := func(name string) string {
		if name == "" {
			return ""
		}
		return j.workspace.Tmp(name)
	}
	s := j.plan.Server
	return network.JobCredentials{
		URL: s.URL, TLSCAFile: path(s.CAFile), TLSCertFile: path(s.CertFile), TLSKeyFile: path(s.KeyFile),
	}
}
