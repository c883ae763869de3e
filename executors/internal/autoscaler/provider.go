// Package autoscaler gives an executor a slot on an instance. It wraps any executor that can work in an
// executors.Environment: a job's room is reserved before the job is asked for, its instance is acquired
// while it is prepared, and the wrapped executor is handed the connection to that instance.
//
// Every runner entry has a fleet: one plugin process, one taskscaler and the connections to the
// instances. Executors in executors/… make providers of it; nothing else imports it.
package autoscaler

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/diagnosis"
)

// Inner is the executor that is wrapped.
type Inner interface {
	Features() spec.Features
	DefaultShell() string

	// NewExecutor returns an executor that works in env.
	NewExecutor(job *common.Job, env executors.Environment) common.Executor

	// Warm gets a machine ready for jobs of the entry ahead of the first one. Its failure fails no job.
	Warm(ctx context.Context, runner *config.Runner, env executors.Environment) error

	// Watch looks after a machine, until ctx ends. Its error says what is wrong if nothing on the
	// machine will run jobs any more.
	Watch(ctx context.Context, runner *config.Runner, env executors.Environment) error

	// Examine tries what jobs of the entry need of a machine, and changes nothing there.
	Examine(ctx context.Context, runner *config.Runner, env executors.Environment, report diagnosis.Report)

	// Unusable says whether an error of an executor's Connect means that nothing on the machine can
	// run jobs, as when its engine has stopped.
	Unusable(err error) bool

	// Stopped says whether an error of Watch or of an executor's Run, or one that wraps it, means that nothing
	// on the machine will run jobs any more.
	Stopped(err error) bool
}

// Options say what a Provider needs.
type Options struct {
	// Name is the value of the executor key in config.toml.
	Name  string
	Inner Inner
	// Plugins starts fleeting plugins.
	Plugins PluginLauncher
	// Connect opens the connection to an instance.
	Connect Connector
	Log     logrus.FieldLogger
	// Metrics takes the metrics of fleets, which exist once a runner entry asked for its first job.
	Metrics prometheus.Registerer
	// StateDir is where the state of fleets is kept unless an entry names another directory.
	StateDir string
}

// Provider implements common.ExecutorProvider.
type Provider struct {
	options Options
	// life ends when Shutdown is out of time, for fleets that are being given up anyway.
	life    context.Context
	endLife context.CancelCauseFunc

	mu     sync.Mutex
	fleets map[config.Identity]*fleet
	// inForce are the entries of the latest Reload, nil before the first: all are.
	inForce  map[config.Identity]bool
	retiring sync.WaitGroup
}

var _ common.ExecutorProvider = (*Provider)(nil)

// NewProvider returns a provider without any fleet: plugins are started when their entry asks for its
// first job.
func NewProvider(o Options) *Provider {
	p := &Provider{options: o, fleets: map[config.Identity]*fleet{}}
	p.life, p.endLife = context.WithCancelCause(context.Background())
	return p
}

// Name implements common.ExecutorProvider.
func (p *Provider) Name() string { return p.options.Name }

// Features implements common.ExecutorProvider: those of the wrapped executor.
func (p *Provider) Features() spec.Features { return p.options.Inner.Features() }

// DefaultShell implements common.ExecutorProvider: that of the wrapped executor.
func (p *Provider) DefaultShell() string { return p.options.Inner.DefaultShell() }

// Acquire reserves a slot. The entry's fleet is started if it has none yet; a failure of that is tried
// again from the beginning with the next call.
func (p *Provider) Acquire(ctx context.Context, runner *config.Runner) (common.Slot, error) {
	f, err := p.enter(runner)
	if err != nil {
		return nil, err
	}
	s, err := f.acquire(ctx, runner)
	if err != nil {
		f.gate.leave()
		return nil, err
	}
	return s, nil
}

// enter returns the entry's fleet, made if there is none, with its gate entered. A request that began
// before the entry was removed must not bring a fleet back that nobody would give up.
func (p *Provider) enter(runner *config.Runner) (*fleet, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := runner.Identity()
	if p.inForce != nil && !p.inForce[id] {
		return nil, noCapacity{errEntryGone}
	}
	f, ok := p.fleets[id]
	if !ok {
		f = newFleet(p.options, runner)
		for _, other := range p.fleets {
			if other.gate.isClosing() && other.group == f.group {
				// Two scalers on one group remove each other's instances, with the jobs on them.
				return nil, noCapacity{errGroupDraining}
			}
		}
		p.fleets[id] = f
	}
	if !f.gate.enter() {
		return nil, noCapacity{errGroupDraining}
	}
	return f, nil
}

// Reload retires the fleets of entries that are gone from the configuration, each once its last slot
// was released. An entry that comes back before that keeps its fleet.
func (p *Provider) Reload(runners []*config.Runner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inForce = map[config.Identity]bool{}
	for _, runner := range runners {
		if runner.Executor != p.options.Name {
			continue
		}
		id := runner.Identity()
		p.inForce[id] = true
		if f, ok := p.fleets[id]; ok {
			f.reloaded(runner)
		}
	}
	for id, f := range p.fleets {
		if p.inForce[id] {
			f.gate.reopen()
			continue
		}
		inside, await := f.gate.begin()
		if await == nil {
			continue
		}
		f.log.WithField("jobs", inside).Info("The runner entry is gone from the configuration: its fleet is given up when its jobs have ended")
		p.retiring.Go(func() {
			if await() {
				p.retire(id, f)
			}
		})
	}
}

// retire gives a fleet up whose gate is closed.
func (p *Provider) retire(id config.Identity, f *fleet) {
	f.shutdown(p.life)
	if f.deletesInstances {
		f.log.Info("The fleet of the removed runner entry is shut down, its instances are deleted")
	} else {
		f.log.Warning("The fleet of the removed runner entry is shut down; its instances stay, because delete_instances_on_shutdown is not set")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.fleets, id)
}

// Shutdown shuts all fleets down, side by side.
func (p *Provider) Shutdown(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { p.endLife(context.Cause(ctx)) })()
	p.mu.Lock()
	p.inForce = map[config.Identity]bool{}
	fleets := slices.Collect(maps.Values(p.fleets))
	p.mu.Unlock()

	done := make(chan struct{})
	go func() {
		defer close(done)
		var all sync.WaitGroup
		for _, f := range fleets {
			all.Go(func() { f.shutdown(ctx) })
		}
		all.Wait()
		p.retiring.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// noCapacity is the refusal of a reservation.
type noCapacity struct{ err error }

func (e noCapacity) Error() string { return "reserving taskscaler capacity: " + e.err.Error() }

func (e noCapacity) Unwrap() error { return e.err }

func (e noCapacity) Is(target error) bool { return target == common.ErrNoFreeExecutor }

var (
	errNoAutoscalerConfig = errors.New("executor requires autoscaler config: add [runners.autoscaler] to the entry")
	// Jobs that count on being isolated must not run without that.
	errVMIsolation   = errors.New("vm_isolation is not supported: remove [runners.autoscaler.vm_isolation] to run jobs without it")
	errEntryGone     = errors.New("the runner entry is gone from the configuration")
	errGroupDraining = errors.New("the instances still belong to a runner entry that was removed and is draining")
)
