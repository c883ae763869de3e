// Package docker is the docker executor: jobs run in containers on any Docker Engine API, that of this
// machine or that of a machine an environment stands for.
//
// A job is compiled first and run then: the job, its configuration and what is known of the engine
// become a plain plan (package blueprint), without an engine; the executor carries it out. What it
// makes is removed at the end, also when the job's context is long over; what could not be removed is
// found by its labels at the next use of the engine.
//
// What is learned of an engine is remembered per machine, so that a job on a warm machine asks for
// little, and identical pulls on one machine happen once.
//
// Commands and wrapping executors import it.
package docker

import (
	"context"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// Options say how a Provider works.
type Options struct {
	// Version is that of this product: helper images carry it in their tag.
	Version version.Info
	// HelperImageDirs are searched, in this order, for bundled helper images. Nil selects
	// HelperImageDirs().
	HelperImageDirs []string
	// HomeDir has the docker command line's own credentials. Empty selects the user's.
	HomeDir string
	// Log is the process log.
	Log logrus.FieldLogger
}

// Provider makes docker executors. It is safe for concurrent use.
type Provider struct {
	version    version.Info
	helperDirs []string
	home       string
	log        logrus.FieldLogger
	machines   *machines
	recent     recent
	// process names this process in labels.
	process string
	// open connects to engines.
	open func(ctx, life context.Context, c *connector) (*link, error)
}

var _ common.ExecutorProvider = (*Provider)(nil)

// NewProvider returns a provider.
func NewProvider(o Options) *Provider {
	if o.HelperImageDirs == nil {
		o.HelperImageDirs = HelperImageDirs()
	}
	if o.HomeDir == "" {
		// Without a home there are no credentials in it; that is no fault.
		o.HomeDir, _ = os.UserHomeDir()
	}
	return &Provider{
		version:    o.Version,
		helperDirs: o.HelperImageDirs,
		home:       o.HomeDir,
		log:        o.Log,
		machines:   newMachines(),
		process:    thisProcess(),
		open:       openLink,
	}
}

// HelperImageDirs are where an installation keeps bundled helper images: beside the program, where a
// source tree builds them, and where packages put them.
func HelperImageDirs() []string {
	const images = "helper-images"
	dirs := []string{filepath.Join("out", images)}
	if program, err := os.Executable(); err == nil {
		beside := filepath.Dir(program)
		dirs = append([]string{
			filepath.Join(beside, "out", images),
			filepath.Join(beside, "..", images),
		}, append(dirs, filepath.Join(beside, "..", "lib", "gitlab-runner", images))...)
	}
	return dirs
}

// Name is the value of the executor key in config.toml.
func (p *Provider) Name() string { return "docker" }

// Features is what jobs of this executor may use.
func (p *Provider) Features() spec.Features {
	return spec.Features{
		Variables:              true,
		Image:                  true,
		Services:               true,
		ImageExecutorOpts:      true,
		ServiceExecutorOpts:    true,
		ServiceMultipleAliases: true,
		ServiceVariables:       true,
		Session:                true,
		Terminal:               true,
	}
}

// DefaultShell is the shell of a runner entry that names none.
func (p *Provider) DefaultShell() string { return "bash" }

// Acquire always finds room on the local engine: concurrency is limited elsewhere.
func (p *Provider) Acquire(_ context.Context, _ *config.Runner) (common.Slot, error) {
	return &localSlot{provider: p}, nil
}

// Reload does nothing: no runner entry holds anything here.
func (p *Provider) Reload([]*config.Runner) {}

// Shutdown does nothing: executors remove what they made.
func (p *Provider) Shutdown(context.Context) {}

// NewExecutor returns an executor on the engine of a machine. A nil environment is the engine that
// [runners.docker] names, reached from here.
func (p *Provider) NewExecutor(job *common.Job, env executors.Environment) common.Executor {
	return newExecutor(p, job, env)
}

// Warm gets a machine ready for jobs of a runner entry ahead of the first one: what its engine is like
// becomes known, leftovers of earlier jobs go, and the helper image comes.
func (p *Provider) Warm(ctx context.Context, runner *config.Runner, env executors.Environment) error {
	return warm(ctx, p, runner, env)
}

// Unusable says whether an error of an executor's Connect means that the machine's engine does not
// answer.
func (p *Provider) Unusable(err error) bool { return docker.IsConnectionFailed(err) }

// Stopped says whether an error of Watch or of an executor's Run, or one that wraps it, means that the machine's
// engine has ended.
func (p *Provider) Stopped(err error) bool { return isStopped(err) }

// localSlot is room on the engine of [runners.docker].
type localSlot struct {
	provider *Provider
}

func (s *localSlot) NewExecutor(job *common.Job) common.Executor {
	return s.provider.NewExecutor(job, nil)
}

// Renew implements common.Slot: there is no other engine.
func (s *localSlot) Renew(error) bool { return false }

func (s *localSlot) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

func (s *localSlot) Release() {}
