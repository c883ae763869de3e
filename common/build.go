package common

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/masking"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// Trace takes the job log and tells what GitLab says about the job meanwhile. The functions given to
// it are called from goroutines of its own.
type Trace interface {
	io.Writer

	// OnCancel sets what is called, at most once, when somebody cancels the job gracefully.
	OnCancel(func())

	// OnAbort sets what is called when the job is over for GitLab and is to stop at once.
	OnAbort(func())
}

// RemoteCache knows where caches are kept beyond the machine of a job.
type RemoteCache interface {
	// Download and Upload return how an object is fetched and stored. What they return is valid for
	// ttl at least. key is what the user calls the cache; it is stored beside the object.
	Download(ctx context.Context, object string, ttl time.Duration) (plan.Remote, error)
	Upload(ctx context.Context, object, key string, ttl time.Duration) (plan.Remote, error)
	// UploadInParts is Upload for an object of any size. The caller calls abandon once the upload has ended,
	// however it did.
	UploadInParts(ctx context.Context, object, key string, ttl time.Duration) (remote plan.Remote, abandon func(context.Context) error, err error)
}

type locateObject func(ctx context.Context, object string, ttl time.Duration) (plan.Remote, error)

// BuildOptions say what a build needs.
type BuildOptions struct {
	Job    *spec.Job
	Runner *config.Runner
	Slot   Slot
	Trace  Trace
	Log    logrus.FieldLogger

	ConcurrentID        int
	ConcurrentProjectID int

	// Hostname is this machine's, as users see it.
	Hostname string
	Version  version.Info
	// TLSVariables are CI_SERVER_TLS_*, from the connection to GitLab.
	TLSVariables []spec.Variable
	// CorrelationID is that of the job request.
	CorrelationID string
	// Features are those of the executor.
	Features spec.Features
	// RemoteCache is nil without a distributed cache.
	RemoteCache RemoteCache
	// Terminal is nil if users cannot get into the job's container. TerminalTimeout is how long a user may stay
	// there after the scripts have ended.
	Terminal        Terminal
	TerminalTimeout time.Duration
	// Secrets fetches what the job keeps elsewhere.
	Secrets SecretStore
}

// Build is one job under way. It is made for one call of Run.
type Build struct {
	options BuildOptions
	job     *Job
	started time.Time
	// warnings are about settings of the job, for its log.
	warnings []string
	// invalid is why the job cannot be run at all: a template of its inputs makes no sense.
	invalid error
	inputs  InputsOutcome

	executor Executor
	machine  Machine
	// early is the get_sources stage if it was begun while the executor was still preparing.
	early *earlySources
	// givenUp is closed when the stage returns that did not do so although its end was due; nil as a
	// rule.
	givenUp <-chan struct{}
	// resolved are the job's secrets from elsewhere, as variables.
	resolved []spec.Variable

	mu       sync.Mutex
	status   Status
	onCancel context.CancelCauseFunc
	// stages are those that ended; the current one began at stageBegan.
	stages     []StageTime
	stageBegan time.Time
	// secrets are the values that the log hides, rules how.
	secrets []string
	rules   *masking.Rules
}

// Status is where a build is, for metrics and for people.
type Status struct {
	State State
	// Stage is the name of the current stage, ExecutorStage what the executor is at.
	Stage         string
	ExecutorStage string
	// Instance is the id of the autoscaled instance that the job is on; empty if there is none (yet).
	Instance string
	// Started is when the build was made.
	Started time.Time
}

// State is the state of a build.
type State string

// The states of a build.
const (
	Pending    State = "pending"
	Running    State = "running"
	Success    State = "success"
	Failed     State = "failed"
	Canceled   State = "canceled"
	TimedOut   State = "timedout"
	Terminated State = "terminated"
)

// Result is how a build ended.
type Result struct {
	State State
	// Reason is set when State is not Success. It is not yet mapped to what the server knows.
	Reason   FailureReason
	ExitCode int
	Err      error
	Duration time.Duration
	// Stages are the durations of the stages in the order of their beginnings, if
	// FF_EXPORT_HIGH_CARDINALITY_METRICS is on. A stage is over when the next one begins.
	Stages []StageTime
	// Inputs is what became of the job's inputs; empty if it had none to interpolate.
	Inputs InputsOutcome
}

// StageTime is how long a stage took.
type StageTime struct {
	Name     string
	Duration time.Duration
}

// InputsOutcome is what became of the inputs of a job: InputsInterpolated, or a kind of failure as package
// inputs names it.
type InputsOutcome string

// InputsInterpolated says that the templates of a job were replaced.
const InputsInterpolated InputsOutcome = "interpolated"

// defaultTimeout is that of a job for which the server names none.
const defaultTimeout = 2 * time.Hour

// cleanupTimeout bounds the clean-up after a job.
const cleanupTimeout = 5 * time.Minute

// NewBuild returns a build that is ready to run.
func NewBuild(o BuildOptions) *Build {
	b := &Build{started: time.Now()}
	o.Job, b.inputs, b.invalid = expandInputs(o.Runner, o.Job)
	b.options = o
	b.status = Status{State: Pending, ExecutorStage: executorCreated, Started: b.started}
	b.job = b.newJob()
	return b
}

// Status returns where the build is. It may be called at any time.
func (b *Build) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// Run runs the job and returns how it ended. It returns after everything the job made is removed. When
// ctx ends the job is stopped; the cause of ctx, best a *BuildError, is then the job's error.
func (b *Build) Run(ctx context.Context) Result {
	timeout := b.timeout()
	b.job.Deadline = b.started.Add(timeout)
	ctx, stop := context.WithDeadlineCause(ctx, b.job.Deadline,
		Fail(JobExecutionTimeout, fmt.Errorf("execution took longer than %s seconds", timeout)))
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	canceled := Fail(JobCanceled, ErrJobCanceled)
	b.setOnCancel(cancel)
	b.options.Trace.OnCancel(func() {
		if cancel := b.takeOnCancel(); cancel != nil {
			cancel(canceled)
		}
	})
	b.options.Trace.OnAbort(func() { cancel(canceled) })

	err := b.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	result := b.result(err)
	result.Inputs = b.inputs
	if b.job.Flags.IsOn(featureflags.HighCardinalityMetrics) {
		result.Stages = b.stageTimes()
	}
	b.finish(result)
	return result
}

// run is the job from its first line to the removal of what it made.
func (b *Build) run(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = b.panicked(p)
			b.cleanup(ctx)
		}
	}()
	b.setState(Running)
	b.header()
	if err := b.refuse(); err != nil {
		return err
	}
	if err := b.resolveSecrets(ctx); err != nil {
		return err
	}

	ctx, release, err := b.prepare(ctx)
	if err != nil {
		return err
	}
	defer release()
	defer b.cleanup(ctx)
	b.setExecutorStage(executorRun)
	b.offerTerminal()
	err = b.runStages(ctx)
	b.awaitTerminal(ctx)
	if err != nil && ctx.Err() != nil {
		// The context was derived from the machine: its cause tells of a machine that was lost.
		return context.Cause(ctx)
	}
	return err
}

// panicked makes an error of what recover returned.
func (b *Build) panicked(p any) error {
	b.options.Log.WithField("stack", string(debug.Stack())).Errorf("panic in a job: %v", p)
	return Fail(RunnerSystemFailure, fmt.Errorf("%w: %v", errPanic, p))
}

// guard calls a part of the job that has a goroutine of its own, and makes an error of its panic.
func (b *Build) guard(part func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = b.panicked(p)
		}
	}()
	return part()
}

var errPanic = errors.New("panic")

// runStages is the order of a job's stages.
func (b *Build) runStages(ctx context.Context) error {
	if err := b.getSources(ctx); err != nil {
		if ctx.Err() != nil || errors.Is(err, errGetSourcesTimeout) {
			return err
		}
		return b.afterUser(ctx, err)
	}
	if err := b.attempts(ctx, b.job.Settings.RestoreCacheAttempts, b.restoreCache); err != nil {
		return b.afterUser(ctx, err)
	}
	if err := b.attempts(ctx, b.job.Settings.ArtifactDownloadAttempts, b.downloadArtifacts); err != nil {
		return b.afterUser(ctx, err)
	}
	return b.afterUser(ctx, b.userPhase(ctx))
}

// afterUser is what follows the user's scripts, or the failure to get to them. The first error wins.
func (b *Build) afterUser(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	cacheErr := b.saveCache(ctx, err == nil)
	uploadErr := b.uploadArtifacts(ctx, err == nil)
	if cleanErr := b.cleanupFileVariables(ctx); cleanErr != nil {
		b.options.Log.WithError(cleanErr).Warning("cleaning up file variables failed")
	}
	for _, e := range []error{err, cacheErr, uploadErr} {
		if e != nil {
			return e
		}
	}
	return nil
}

// cleanup removes what the executor made, whatever became of the job's own context.
func (b *Build) cleanup(ctx context.Context) {
	if b.executor == nil {
		return
	}
	b.setExecutorStage(executorCleanup)
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer stop()
	if err := b.executor.Cleanup(ctx); err != nil {
		b.options.Log.WithError(err).Error("cleaning up after a job failed")
	}
	b.executor = nil
	if b.givenUp == nil {
		return
	}
	select {
	case <-b.givenUp:
	case <-ctx.Done():
		b.options.Log.Error("a stage that was given up has not returned even now that its machine is cleaned up")
	}
}

func (b *Build) timeout() time.Duration {
	if b.options.Job.Runner.Timeout <= 0 {
		return defaultTimeout
	}
	return time.Duration(b.options.Job.Runner.Timeout) * time.Second
}

func (b *Build) result(err error) Result {
	result := Result{State: Success, Duration: time.Since(b.started), Err: err}
	if err == nil {
		return result
	}
	result.State = Failed
	result.Reason = ReasonOf(err)
	var build *BuildError
	if errors.As(err, &build) {
		result.ExitCode = build.ExitCode
	}
	switch {
	case result.Reason == JobCanceled:
		result.State = Canceled
	case result.Reason == JobExecutionTimeout:
		result.State = TimedOut
	case result.Reason == RunnerInterrupted, errors.Is(err, errPanic):
		result.State = Terminated
	}
	return result
}

// finish writes the last line and tells the process log.
func (b *Build) finish(r Result) {
	b.setState(r.State)
	entry := b.options.Log.WithFields(logrus.Fields{
		"duration_s": r.Duration.Seconds(),
		"job-status": string(r.State),
	})
	switch {
	case r.State == Success:
		b.job.Log.Result(true, "Job succeeded")
		entry.Info("Job succeeded")
	case r.Reason == RunnerSystemFailure:
		text := "Job failed (system failure): " + r.Err.Error()
		b.job.Log.Result(false, text)
		entry.WithField("failure_reason", string(r.Reason)).Error(text)
	default:
		text := "Job failed: " + r.Err.Error()
		b.job.Log.Result(false, text)
		entry.WithFields(logrus.Fields{"failure_reason": string(r.Reason), "exit_code": r.ExitCode}).Warning(text)
	}
	_ = b.job.Log.Close()
}

func (b *Build) setState(state State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.State = state
}

func (b *Build) setMachine(machine Machine) {
	b.machine = machine
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.Instance = machine.Instance
}

func (b *Build) setStage(stage string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endStage()
	b.status.Stage = stage
}

// endStage notes how long the current stage took. The caller holds the lock.
func (b *Build) endStage() {
	now := time.Now()
	if b.status.Stage != "" {
		b.stages = append(b.stages, StageTime{Name: b.status.Stage, Duration: now.Sub(b.stageBegan)})
	}
	b.stageBegan = now
}

// stageTimes are the durations of all stages; the last one ends now.
func (b *Build) stageTimes() []StageTime {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endStage()
	return b.stages
}

// The stages of an executor, as metrics name them.
const (
	executorCreated = "created"
	executorPrepare = "prepare"
	executorRun     = "docker_run"
	executorCleanup = "cleanup"
)

func (b *Build) setExecutorStage(stage string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status.ExecutorStage = stage
}

func (b *Build) setOnCancel(cancel context.CancelCauseFunc) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.onCancel = cancel
}

// takeOnCancel returns what a graceful cancel ends now, and forgets it: a job is cancelled once.
func (b *Build) takeOnCancel() context.CancelCauseFunc {
	b.mu.Lock()
	defer b.mu.Unlock()
	cancel := b.onCancel
	b.onCancel = nil
	return cancel
}

// URL is the job's page in GitLab.
func (b *Build) URL() string { return b.job.URL() }
