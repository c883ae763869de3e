package common

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

// The public names of stages, as they stand in sections and metrics.
const (
	stageResolveSecrets  = "resolve_secrets"
	stagePrepareExecutor = "prepare_executor"
	stagePrepareScript   = "prepare_script"
	stageGetSources      = "get_sources"
	stageClearWorktree   = "clear_worktree"
	stageRestoreCache    = "restore_cache"
	stageDownload        = "download_artifacts"
	stageAfterScript     = "after_script"
	stageCache           = "archive_cache"
	stageCacheOnFailure  = "archive_cache_on_failure"
	stageUpload          = "upload_artifacts_on_success"
	stageUploadOnFailure = "upload_artifacts_on_failure"
	stageCleanup         = "cleanup_file_variables"
	stageStepPrefix      = "step_"
)

var titles = map[string]string{
	stageGetSources:      "Getting source from Git repository",
	stageClearWorktree:   "Deleting all tracked and untracked files due to source fetch failure",
	stageRestoreCache:    "Restoring cache",
	stageDownload:        "Downloading artifacts",
	stageAfterScript:     "Running after_script",
	stageCache:           "Saving cache for successful job",
	stageCacheOnFailure:  "Saving cache for failed job",
	stageUpload:          "Uploading artifacts for successful job",
	stageUploadOnFailure: "Uploading artifacts for failed job",
	stageCleanup:         "Cleaning up project directory and file based variables",
}

var errGetSourcesTimeout = errors.New("get sources timeout")

// timeoutDocs is where the user reads about timeouts.
const timeoutDocs = "https://docs.gitlab.com/ci/runners/configure_runners/#set-script-and-after_script-timeouts"

// runStage runs one stage in its section.
func (b *Build) runStage(ctx context.Context, log *joblog.Log, stage Stage) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b.setStage(stage.Name)
	title, ok := titles[stage.Name]
	if !ok {
		title = fmt.Sprintf("Executing %q stage of the job script", stage.Name)
	}
	return log.Section(stage.Name, title, func() error {
		stdout, stderr := log.Output(joblog.ScriptOut), log.Output(joblog.ScriptErr)
		stage.Stdout, stage.Stderr = stdout, stderr
		err := b.await(ctx, stage)
		if errors.Is(err, errNotReturned) {
			return err
		}
		closeErr := errors.Join(stdout.Close(), stderr.Close())
		if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			log.Warn("%s could not run to completion because the timeout was exceeded. For more control over job and script timeouts see: %s", stage.Name, timeoutDocs)
		}
		if err == nil && closeErr != nil {
			return fmt.Errorf("writing the job log: %w", closeErr)
		}
		return err
	})
}

// abandonTimeout bounds the removal of what uploads that did not end well have left.
const abandonTimeout = 30 * time.Second

// stageGrace is how long a stage may take to return after its context ended.
const stageGrace = 5 * time.Minute

var errNotReturned = errors.New("timed out waiting for the stage to end")

// await runs a stage and waits for it. A stage that does not return long after it had to is left to the
// executor's clean-up.
func (b *Build) await(ctx context.Context, stage Stage) error {
	executor := b.executor
	returned := make(chan struct{})
	var err error
	go func() {
		defer close(returned)
		err = b.guard(func() error { return executor.Run(ctx, stage) })
	}()
	select {
	case <-returned:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(stageGrace)
	defer grace.Stop()
	select {
	case <-returned:
		return err
	case <-grace.C:
		b.givenUp = returned
		return fmt.Errorf("%s: %w", stage.Name, errNotReturned)
	}
}

// runHelper runs a stage of the runner's own, if there is work for it.
func (b *Build) runHelper(ctx context.Context, log *joblog.Log, work *plan.Plan) error {
	if work == nil {
		return nil
	}
	return b.runStage(ctx, log, Stage{Name: work.Stage, Where: InHelper, Plan: work})
}

// getSources runs the stage, or takes the result of the one that was begun early.
func (b *Build) getSources(ctx context.Context) error {
	if b.early != nil {
		early := b.early
		b.early = nil
		return early.wait()
	}
	if !b.needsHelperForSources() {
		return b.skipSources()
	}
	return b.sourcesWithAttempts(ctx, b.job.Log)
}

// sourcesWithAttempts is get_sources with its attempts and its timeout.
func (b *Build) sourcesWithAttempts(ctx context.Context, log *joblog.Log) error {
	limited, stop := b.withConfigTimeout(ctx, b.job.Runner.GetSourcesTimeout, "get sources timeout")
	defer stop()
	attempt := 0
	err := b.attempts(limited, b.job.Settings.GetSourcesAttempts, func(ctx context.Context) error {
		attempt++
		if attempt == 2 {
			if err := b.runHelper(ctx, log, b.clearWorktreePlan()); err != nil {
				return err
			}
		}
		return b.runHelper(ctx, log, b.sourcesPlan())
	})
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", errGetSourcesTimeout, context.Cause(limited))
	}
	return err
}

// needsHelperForSources says whether get_sources has anything to do on the machine.
func (b *Build) needsHelperForSources() bool {
	return b.job.Strategy != plan.StrategyNone
}

// skipSources tells the user that there is nothing to get. The script makes the directory.
func (b *Build) skipSources() error {
	b.setStage(stageGetSources)
	return b.job.Log.Section(stageGetSources, titles[stageGetSources], func() error {
		for _, what := range []string{"Git repository setup", "Git checkout", "Git submodules setup"} {
			b.job.Log.Info("Skipping %s", what)
		}
		return nil
	})
}

func (b *Build) restoreCache(ctx context.Context) error {
	work, err := b.restoreCachePlan(ctx)
	if err != nil {
		return err
	}
	return b.runHelper(ctx, b.job.Log, work)
}

func (b *Build) downloadArtifacts(ctx context.Context) error {
	return b.runHelper(ctx, b.job.Log, b.downloadPlan())
}

func (b *Build) saveCache(ctx context.Context, success bool) error {
	work, err := b.saveCachePlan(ctx, success, b.uploadObject)
	if err != nil {
		return err
	}
	err = b.runHelper(ctx, b.job.Log, work)
	if exit := (&BuildError{}); errors.As(err, &exit) && exit.ExitCode == plan.ExitNeedsParts && b.options.RemoteCache != nil {
		return b.saveCacheInParts(ctx, success)
	}
	return err
}

// saveCacheInParts runs the stage again for archives that are too large for one request. They have been made.
func (b *Build) saveCacheInParts(ctx context.Context, success bool) error {
	var abandon []func(context.Context) error
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
		defer cancel()
		for _, end := range abandon {
			if err := end(ctx); err != nil {
				b.options.Log.WithError(err).Warn("parts of a cache may be left in the object store")
			}
		}
	}()
	work, err := b.saveCachePlan(ctx, success, func(ctx context.Context, object, key string, ttl time.Duration) (plan.Remote, error) {
		remote, end, err := b.options.RemoteCache.UploadInParts(ctx, object, key, ttl)
		if err == nil {
			abandon = append(abandon, end)
		}
		return remote, err
	})
	if err != nil {
		return err
	}
	return b.runHelper(ctx, b.job.Log, work)
}

func (b *Build) uploadArtifacts(ctx context.Context, success bool) error {
	return b.runHelper(ctx, b.job.Log, b.uploadPlan(success))
}

// cleanupFileVariables leaves nothing of this job for the next one. Where the job had its directories to
// itself they are removed as a whole, and there is nothing to do.
func (b *Build) cleanupFileVariables(ctx context.Context) error {
	if b.job.Strategy == plan.StrategyFetch || b.machine.SharedBuildsDir {
		return b.runHelper(ctx, b.job.Log, b.cleanupPlan())
	}
	b.setStage(stageCleanup)
	return b.job.Log.Section(stageCleanup, titles[stageCleanup], func() error { return nil })
}

// userPhase runs the user's scripts and, whatever became of them, after_script.
func (b *Build) userPhase(ctx context.Context) error {
	scriptCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if limit := b.phaseLimit("RUNNER_SCRIPT_TIMEOUT", b.job.Settings.ScriptTimeout, 0); limit > 0 {
		var stop context.CancelFunc
		scriptCtx, stop = context.WithTimeoutCause(scriptCtx, limit,
			Fail(JobExecutionTimeout, fmt.Errorf("script timeout: exceeded timeout of %s", limit)))
		defer stop()
	}
	if b.takeOnCancel() == nil {
		// The job is being cancelled in this very moment: its context is about to end.
		<-ctx.Done()
		return context.Cause(ctx)
	}
	b.setOnCancel(func(cause error) {
		b.job.Log.Warn("script canceled externally (UI, API)")
		cancel(cause)
	})

	err := b.runSteps(scriptCtx)
	if err != nil && scriptCtx.Err() != nil {
		err = context.Cause(scriptCtx)
	}
	b.takeOnCancel()
	if ctx.Err() != nil {
		return err
	}
	afterErr := b.runAfterScript(ctx, err)
	if err == nil && afterErr != nil && !b.job.Settings.AfterScriptIgnoreErrors {
		return afterErr
	}
	return err
}

func (b *Build) runSteps(ctx context.Context) error {
	first := true
	for _, step := range b.job.Spec.Steps {
		if step.Name == spec.StepAfterScript || len(step.Script) == 0 {
			continue
		}
		stage := Stage{Name: stageStepPrefix + step.Name, Where: InBuild, Script: b.stepScript(step, first)}
		first = false
		if err := b.runStage(ctx, b.job.Log, stage); err != nil {
			return err
		}
	}
	return nil
}

func (b *Build) runAfterScript(ctx context.Context, scriptErr error) error {
	for _, step := range b.job.Spec.Steps {
		if step.Name != spec.StepAfterScript || len(step.Script) == 0 {
			continue
		}
		limit := b.phaseLimit("RUNNER_AFTER_SCRIPT_TIMEOUT", b.job.Settings.AfterScriptTimeout, defaultAfterScriptTimeout)
		// It counts as a script that failed, not as the job's timeout.
		limited, stop := context.WithTimeoutCause(ctx, limit,
			Fail(ScriptFailure, fmt.Errorf("after_script timeout: exceeded timeout of %s", limit)))
		defer stop()
		stage := Stage{Name: stageAfterScript, Where: InBuild, Script: b.afterScript(step, b.result(scriptErr).State)}
		err := b.runStage(limited, b.job.Log, stage)
		if err != nil && ctx.Err() == nil && b.job.Settings.AfterScriptIgnoreErrors {
			b.job.Log.Warn("after_script failed, but job will continue unaffected: %v", err)
		}
		return err
	}
	return nil
}

// phaseLimit is the limit of a part of the user's scripts. One that is longer than what is left of the
// job's time gives a warning, and the default.
func (b *Build) phaseLimit(name string, limit, fallback time.Duration) time.Duration {
	left := time.Until(b.job.Deadline)
	if limit != fallback && limit > left {
		b.job.Log.Warn("%s: %s is longer than the %s that are left of the job's timeout, using the default", name, limit, left.Round(time.Second))
		return fallback
	}
	return limit
}

// attempts repeats a stage that failed, with growing pauses.
func (b *Build) attempts(ctx context.Context, limit int, stage func(context.Context) error) error {
	first, longest := time.Second, 5*time.Second
	if b.job.Flags.IsOn(featureflags.ExponentialStageRetry) {
		first, longest = 5*time.Second, 5*time.Minute
	}
	wait := first
	for attempt := 1; ; attempt++ {
		err := stage(ctx)
		if err == nil || attempt >= limit || ctx.Err() != nil {
			return err
		}
		jittered := min(wait+rand.N(wait/4), longest)
		b.job.Log.Warn("Retrying in %s", jittered.Round(time.Millisecond))
		if err := pause.For(ctx, jittered); err != nil {
			return err
		}
		wait = min(2*wait, longest)
	}
}
