// Package bootverify tries whether a runner entry can run jobs, by running one: a small job of our own on the entry's
// default image, on the way that every job goes. Room is made by the executor's provider, a common.Build runs the job,
// the room is given back. GitLab is not asked for anything and told nothing.
//
// When Run returns nothing of the job is left on the machine, not even a cache.
//
// The manager uses it before it asks for its first job.
package bootverify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// Options say what is verified, and with what.
type Options struct {
	// Runner is the entry. Its BootVerification says how long to try.
	Runner *config.Runner
	// Provider is that of the entry's executor, nil if there is none of its name.
	Provider common.ExecutorProvider
	// ID is the job's: it is not that of another verification of this process.
	ID       int64
	Log      logrus.FieldLogger
	Version  version.Info
	Hostname string
}

// Failure is why an entry cannot run jobs.
type Failure struct {
	// Stage is StageAcquire or the name of the job's stage that failed.
	Stage string
	// Reason is what the stage failed with.
	Reason error
	// Remedy is what to look at, as one sentence without its end.
	Remedy string
	// Log are the last lines of the job's log, empty if it never began.
	Log string
	// connected says that the machine and its engine were reached.
	connected bool
}

func (f *Failure) Error() string { return fmt.Sprintf("at stage %s: %v", f.Stage, f.Reason) }

func (f *Failure) Unwrap() error { return f.Reason }

// StageAcquire is the stage before those of the job.
const StageAcquire = "acquire"

// Run verifies an entry. The error is a *Failure, or the cause of ctx if that ended before it was known whether the
// entry can run jobs.
func Run(ctx context.Context, o Options) error {
	settings := o.Runner.BootVerification()
	limited, stop := context.WithTimeoutCause(ctx, settings.Timeout,
		common.Fail(common.JobExecutionTimeout, fmt.Errorf("%w within %s", errNotDone, settings.Timeout)))
	defer stop()
	failure := o.verify(limited, settings)
	switch {
	case failure == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	default:
		failure.Remedy = remedy(o.Runner, failure)
		return failure
	}
}

var (
	errNotDone         = errors.New("not done")
	errUnknownExecutor = errors.New("this runner has no such executor")
)

// verify makes room for the job and runs it.
func (o Options) verify(ctx context.Context, settings config.BootVerify) *Failure {
	if o.Provider == nil {
		return &Failure{Stage: StageAcquire, Reason: fmt.Errorf("executor %q: %w", o.Runner.Executor, errUnknownExecutor)}
	}
	room, err := o.acquire(ctx, settings)
	if err != nil {
		return &Failure{Stage: StageAcquire, Reason: err}
	}
	defer room.Release()
	slot := &observed{Slot: room}
	log := &tail{}
	build := common.NewBuild(common.BuildOptions{
		Job: payload(o.ID, settings.Timeout), Runner: withoutCaches(o.Runner), Slot: slot,
		Trace: trace{log}, Log: muted(o.Log),
		Hostname: o.Hostname, Version: o.Version, Features: o.Provider.Features(),
	})
	if result := build.Run(ctx); result.State != common.Success {
		stage, connected := slot.outcome()
		return &Failure{Stage: cmp.Or(stage, build.Status().Stage), Reason: result.Err, Log: log.text(), connected: connected}
	}
	return nil
}

// acquire gets room for the job, and tries that again with growing pauses.
func (o Options) acquire(ctx context.Context, settings config.BootVerify) (common.Slot, error) {
	told := ""
	for delay := settings.AcquireMinBackoff; ; delay = min(2*delay, settings.AcquireMaxBackoff) {
		slot, err := o.Provider.Acquire(ctx, o.Runner)
		if err == nil {
			return slot, nil
		}
		if ctx.Err() == nil {
			told = o.tell(err, delay, told)
		}
		if ended := pause.For(ctx, delay); ended != nil {
			return nil, fmt.Errorf("%w; the last try: %w", ended, err)
		}
	}
}

// tell logs why there is no room yet, once for each reason. It returns what it told last.
func (o Options) tell(err error, delay time.Duration, told string) string {
	log := o.Log.WithError(err).WithField("retry_in", delay)
	const text = "There is no room for the boot verification yet"
	if errors.Is(err, common.ErrNoFreeExecutor) || err.Error() == told {
		log.Debug(text)
		return told
	}
	log.Warning(text)
	return err.Error()
}

// payload is the job: without sources, in an empty directory, which the helper makes as it does for every job that
// gets some. Its timeout is never over before that of the verification.
func payload(id int64, timeout time.Duration) *spec.Job {
	job := &spec.Job{
		ID:     id,
		Info:   spec.JobInfo{Name: "boot-verify", Stage: "boot-verify"},
		Runner: spec.RunnerInfo{Timeout: int(timeout/time.Second) + 1},
		Steps:  []spec.Step{{Name: spec.StepScript, Script: []string{`echo "This runner can run jobs."`}}},
	}
	for _, v := range [][2]string{
		{"CI", "true"}, {"GITLAB_CI", "true"}, {"CI_SERVER_NAME", "GitLab"}, {"GIT_STRATEGY", "empty"},
		{"CI_JOB_ID", strconv.FormatInt(id, 10)}, {"CI_JOB_NAME", job.Info.Name}, {"CI_JOB_STAGE", job.Info.Stage},
	} {
		job.Variables = append(job.Variables, spec.Variable{Key: v[0], Value: v[1], Public: true, Raw: true})
	}
	return job
}

// withoutCaches is an entry whose volumes go with the job: nobody would ever use those of this one again.
func withoutCaches(runner *config.Runner) *config.Runner {
	if runner.Docker == nil {
		return runner
	}
	entry, settings := *runner, *runner.Docker
	settings.DisableCache, settings.VolumeKeep = true, false
	entry.Docker = &settings
	return &entry
}

// remedy is what to look at after a failure.
func remedy(runner *config.Runner, f *Failure) string {
	doctor := "gitlab-runner doctor"
	if runner.Name != "" {
		doctor += fmt.Sprintf(" --name %q", runner.Name)
	}
	look := "the engine that [runners.docker] names"
	autoscaled := runner.Autoscaler != nil
	var build *common.BuildError
	reason := common.RunnerSystemFailure
	if errors.As(f.Reason, &build) {
		reason = build.Reason
	}
	switch {
	case errors.Is(f.Reason, errUnknownExecutor):
		return "check the key executor"
	case reason == common.RunnerExternalDependencyFailure:
		look = "whether the engine reaches the registries of image and helper_image"
	case reason == common.ImagePullFailure || reason == common.RunnerConfigurationError:
		look = "image, helper_image, pull_policy and volumes in [runners.docker], and the credentials of the registry"
	case reason == common.JobExecutionTimeout && f.connected:
		look = "how long image and helper_image take to be pulled"
	case reason == common.ScriptFailure:
		look = "the image, which must have a shell, pre_build_script and post_build_script"
	case f.Stage == StageAcquire && autoscaled:
		look = "plugin, plugin_config and max_instances in [runners.autoscaler]"
	case autoscaled:
		look = "what the log says of the instances, connector_config and instance_ready_command in [runners.autoscaler], and the engine there"
	}
	if reason == common.JobExecutionTimeout {
		look += "; or raise timeout in [runners.experimental.boot_verify]"
	}
	return fmt.Sprintf("check %s; %s tries each step by itself", look, doctor)
}

// trace takes the job's log. Nobody cancels the job but the context.
type trace struct{ *tail }

// OnCancel implements common.Trace.
func (trace) OnCancel(func()) {}

// OnAbort implements common.Trace.
func (trace) OnAbort(func()) {}
