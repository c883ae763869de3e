package common

import (
	"context"
	"io"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// ExecutorProvider makes the executors of one kind. It lives as long as the process and is safe for
// concurrent use. The life of a job with it:
//
//	Acquire → (job request) → Slot.NewExecutor → Connect → Prepare → Run… → Cleanup → Slot.Release
type ExecutorProvider interface {
	// Name is the value of the executor key in config.toml.
	Name() string

	// Features is what its jobs may use.
	Features() spec.Features

	// DefaultShell is the shell of a runner entry that names none.
	DefaultShell() string

	// Acquire makes room for one job of the entry before the job is asked for. It does not wait for
	// room: without any it fails with an error that wraps ErrNoFreeExecutor.
	Acquire(ctx context.Context, runner *config.Runner) (Slot, error)

	// Reload tells which runner entries are in force now. What belongs to others is given up once
	// their jobs have ended.
	Reload(runners []*config.Runner)

	// Shutdown is the last call, after every slot was released. It gives up what the provider holds
	// and returns when that is done or ctx ends.
	Shutdown(ctx context.Context)
}

// Slot is room for one job. It is owned by one goroutine.
type Slot interface {
	// NewExecutor returns an executor for one try at preparing the job. A further try takes a new
	// executor, after Cleanup of the former, and gets the same room.
	NewExecutor(job *Job) Executor

	// Watch derives a context that ends, with a cause, when the machine under the job is lost. It is
	// called after a successful Connect.
	Watch(ctx context.Context) (context.Context, context.CancelFunc)

	// Renew gives a machine up that was lost, so that the next executor gets another one. It says whether there is
	// one to be had. No executor is at work then, and nothing watches.
	Renew(cause error) bool

	// Release gives the room back. It is called exactly once, whether or not a job came.
	Release()
}

// Executor runs one job. Its methods are called in the order in which they stand here, from one
// goroutine, but for what is said at HelperReady.
type Executor interface {
	// Connect reaches the machine and returns what the rest of the job must know of it. A
	// *BuildError is final; another error may be followed by a new try.
	Connect(ctx context.Context) (Machine, error)

	// Prepare makes everything ready that the stages need: images, volumes, networks, services. The
	// job's directories and variables are decided by then. Errors are treated as those of Connect.
	Prepare(ctx context.Context) error

	// HelperReady is closed as soon as stages with Where == InHelper can be run, possibly long before
	// Prepare returns. From then on Run may be called for such stages from another goroutine.
	HelperReady() <-chan struct{}

	// Run runs one stage and waits for it. A stage that ran and failed gives a *BuildError with its
	// exit code; when ctx ended first, the stage was stopped and the error wraps context.Cause(ctx).
	Run(ctx context.Context, stage Stage) error

	// OpenTerminal opens an interactive shell in the user's container, for which it waits a little. It may be called
	// from other goroutines between Prepare and Cleanup. What it returns ends with the container at the latest.
	OpenTerminal(ctx context.Context) (io.ReadWriteCloser, error)

	// Cleanup removes everything the executor made on the machine. It is called exactly once,
	// whatever happened before, with a context that does not end with the job.
	Cleanup(ctx context.Context) error
}

// Machine is what an executor found out about the machine it connected to.
type Machine struct {
	// OS is linux, windows or freebsd.
	OS string
	// Shell is the dialect of the scripts: bash (also for sh), pwsh or powershell.
	Shell string
	// Hostname is what "Running on" names.
	Hostname string
	// Instance is the id of the autoscaled instance; empty on any other machine.
	Instance string
	// BuildsDir and CacheDir are absolute paths as the stages see them.
	BuildsDir string
	CacheDir  string
	// SharedBuildsDir says that other jobs use BuildsDir too, so that a job needs a part of its own.
	SharedBuildsDir bool
	// NetworkName is CI_BUILD_NETWORK_NAME, empty without a network of the job's own.
	NetworkName string
	// ExtraVariables are set by the executor for the job, for example the slot's cgroup.
	ExtraVariables []spec.Variable
}

// Where says in which container a stage runs.
type Where int

// The containers of a job.
const (
	// InHelper is the container with git and gitlab-runner-helper.
	InHelper Where = iota
	// InBuild is the user's container.
	InBuild
)

// Stage is one part of a job that runs in a container.
type Stage struct {
	// Name is the stage's public name, such as get_sources or step_script.
	Name string
	// Where is InBuild for the user's scripts, which are in Script, and InHelper for the runner's own
	// work, which is in Plan.
	Where  Where
	Script string
	Plan   *plan.Plan
	// Input follows the plan of a stage in the helper; nil for nothing. Run closes it when the stage has
	// ended. A stage with it is not tried again by the executor.
	Input io.ReadCloser
	// Stdout and Stderr take the output. They are written to by different goroutines.
	Stdout io.Writer
	Stderr io.Writer
}
