package common

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

const (
	prepareTries = 3
	prepareDelay = 3 * time.Second
)

// prepare gets the job a machine on which everything is ready. The context it returns ends when the
// machine is lost; release ends the watch for that.
func (b *Build) prepare(ctx context.Context) (watched context.Context, release context.CancelFunc, err error) {
	limited, stop := b.withConfigTimeout(ctx, b.job.Runner.PrepareTimeout, "prepare timeout")
	defer stop()

	title := fmt.Sprintf("Preparing the %q executor", b.job.Runner.Executor)
	b.setStage(stagePrepareExecutor)
	b.setExecutorStage(executorPrepare)
	err = b.job.Log.Section(stagePrepareExecutor, title, func() error {
		watched, release, err = b.tryToPrepare(ctx, limited)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if err := b.prepareScript(); err != nil {
		release()
		return nil, nil, err
	}
	return watched, release, nil
}

// tryToPrepare makes up to three tries, each with a new executor in the same slot. An error whose
// reason is known, and the end of the context, end the tries. A machine that is lost is replaced, if there are others.
func (b *Build) tryToPrepare(ctx, limited context.Context) (context.Context, context.CancelFunc, error) {
	for try := 1; ; try++ {
		watched, release, err := b.prepareOnce(ctx, limited)
		if err == nil {
			return watched, release, nil
		}
		b.cleanup(ctx)
		if limited.Err() != nil {
			return nil, nil, context.Cause(limited)
		}
		if lost := (*lostMachineError)(nil); errors.As(err, &lost) {
			if try == prepareTries || lost.final() || !b.options.Slot.Renew(lost.cause) {
				return nil, nil, lost.reason()
			}
			b.job.Log.Warn("The machine was lost before anything of the job had run on it, trying another one: %v", lost.cause)
			continue
		}
		var build *BuildError
		if errors.As(err, &build) {
			return nil, nil, err
		}
		b.job.Log.Error("Preparation failed: %v", err)
		if try == prepareTries {
			return nil, nil, err
		}
		b.job.Log.Print("Will be retried in %s ...", prepareDelay)
		if err := pause.For(limited, prepareDelay); err != nil {
			return nil, nil, err
		}
	}
}

// prepareOnce is one try. Sources are fetched as soon as the helper's container can be used, while the
// executor is still busy with the rest, as a rule with pulling the job's image.
func (b *Build) prepareOnce(ctx, limited context.Context) (context.Context, context.CancelFunc, error) {
	b.executor = b.options.Slot.NewExecutor(b.job)
	machine, err := b.executor.Connect(limited)
	if err != nil {
		return nil, nil, err
	}
	if err := b.settle(machine); err != nil {
		return nil, nil, err
	}

	watched, release := b.options.Slot.Watch(ctx)
	limited, stop := context.WithCancelCause(limited)
	defer stop(nil)
	defer context.AfterFunc(watched, func() { stop(context.Cause(watched)) })()

	prepared := make(chan error, 1)
	go func() { prepared <- b.guard(func() error { return b.executor.Prepare(limited) }) }()
	select {
	case err = <-prepared:
	case <-b.executor.HelperReady():
		if b.needsHelperForSources() {
			b.early = b.beginSources(watched)
		}
		err = <-prepared
	}
	if err == nil {
		return watched, release, nil
	}
	used := false
	if b.early != nil {
		b.early.giveUp()
		used = b.early.userCode
		b.early = nil
	}
	if watched.Err() != nil {
		err = &lostMachineError{cause: context.Cause(watched), used: used}
	}
	release()
	return nil, nil, err
}

// lostMachineError says that the machine was lost while it was being prepared.
type lostMachineError struct {
	cause error
	// used says that something of the user's may have run on it.
	used bool
}

func (e *lostMachineError) Error() string { return e.cause.Error() }

func (e *lostMachineError) Unwrap() error { return e.cause }

// final says that the job cannot have another machine.
func (e *lostMachineError) final() bool {
	var build *BuildError
	return e.used || errors.As(e.cause, &build)
}

// reason is the error of a job that ends for that.
func (e *lostMachineError) reason() error {
	var build *BuildError
	if errors.As(e.cause, &build) {
		return e.cause
	}
	return Fail(RunnerSystemFailure, e.cause)
}

// settle decides what depends on the machine: the job's directories and, with them, its variables.
func (b *Build) settle(machine Machine) error {
	b.setMachine(machine)
	job := b.job
	root := machine.BuildsDir
	if machine.SharedBuildsDir {
		root = path.Join(root, job.Runner.ShortToken(), fmt.Sprint(job.ConcurrentProjectID))
	}
	job.ProjectDir = path.Join(root, job.slug())
	job.CacheDir = path.Join(machine.CacheDir, job.slug())
	if err := b.customProjectDir(machine.BuildsDir); err != nil {
		return err
	}
	if job.Strategy == plan.StrategyEmpty {
		job.ProjectDir += "-empty"
	}
	job.TmpDir = job.ProjectDir + ".tmp"
	job.Variables = b.variables(machine).Expand(job.TmpDir)
	// What is wrong with them was told before.
	job.Settings, _ = b.settings()
	b.maskMore()
	return nil
}

// customProjectDir applies GIT_CLONE_PATH, which must lie in the builds directory.
func (b *Build) customProjectDir(buildsDir string) error {
	job := b.job
	if job.Settings.GitClonePath == "" {
		return nil
	}
	if c := job.Runner.CustomBuildDir; c != nil && c.Enabled != nil && !*c.Enabled {
		return Fail(RunnerConfigurationError, errors.New("setting GIT_CLONE_PATH is not allowed, enable `custom_build_dir` feature"))
	}
	// Only now is it known what a reference to CI_BUILDS_DIR stands for.
	dir := path.Clean(b.variables(b.machine).Expand("").Get("GIT_CLONE_PATH"))
	if !strings.HasPrefix(dir, strings.TrimSuffix(buildsDir, "/")+"/") {
		return Fail(RunnerConfigurationError, fmt.Errorf("the GIT_CLONE_PATH=%q has to be within %q", dir, buildsDir))
	}
	job.ProjectDir = dir
	return nil
}

// prepareScript says where the job runs.
func (b *Build) prepareScript() error {
	b.setStage(stagePrepareScript)
	return b.job.Log.Section(stagePrepareScript, "Preparing environment", func() error {
		via := ""
		if b.options.Hostname != "" {
			via = " via " + b.options.Hostname
		}
		b.job.Log.Block(fmt.Sprintf("Running on %s%s...\n", b.machine.Hostname, via))
		return nil
	})
}

// withConfigTimeout bounds a part of the job by a duration of the configuration. Values that make no
// sense are told to the process log and ignored.
func (b *Build) withConfigTimeout(ctx context.Context, limit *time.Duration, name string) (context.Context, context.CancelFunc) {
	if limit == nil {
		return context.WithCancel(ctx)
	}
	if *limit <= 0 || *limit > b.timeout() {
		b.options.Log.Warningf("%s of %s is not between 0 and the job's timeout of %s: it has no effect", name, *limit, b.timeout())
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, *limit,
		Fail(JobExecutionTimeout, fmt.Errorf("%s: exceeded timeout of %s", name, *limit)))
}

// earlySources is a get_sources stage that runs while the executor is still preparing.
type earlySources struct {
	log    *joblog.Buffer
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	// userCode says that hooks of the user's are a part of the stage.
	userCode bool
}

func (b *Build) beginSources(ctx context.Context) *earlySources {
	ctx, cancel := context.WithCancel(ctx)
	early := &earlySources{log: b.job.Log.Buffered(), cancel: cancel, done: make(chan struct{}), userCode: b.hasHooks()}
	go func() {
		defer close(early.done)
		early.err = b.guard(func() error { return b.sourcesWithAttempts(ctx, early.log.Log) })
	}()
	return early
}

// wait lets the stage's output through and returns how it ended.
func (e *earlySources) wait() error {
	defer e.cancel()
	e.log.Release()
	<-e.done
	return e.err
}

// giveUp ends the stage and drops its output.
func (e *earlySources) giveUp() {
	e.cancel()
	<-e.done
}
