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
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
)

// Inner is the executor that is wrapped.
type Inner interface {
	Features() spec.Features
	DefaultShell() string

	// NewExecutor returns an executor that works in env.
	NewExecutor(job *common.Job, env executors.Environment) common.Executor

	// Warm gets a machine ready for jobs of the entry ahead of the first one. Its failure fails no job.
	Warm(ctx context.Context, runner *config.Runner, env executors.Environment) error
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

	mu       sync.Mutex
	fleets   map[identity]*fleet
	retiring sync.WaitGroup
}

var _ common.ExecutorProvider = (*Provider)(nil)

// identity tells runner entries apart. A rotated token keeps the fleet of an entry that has an id.
type identity struct {
	url, name string
}

func identityOf(runner *config.Runner) identity {
	if runner.ID == 0 {
		return identity{url: runner.URL, name: runner.Token}
	}
	return identity{url: runner.URL, name: fmt.Sprint(runner.ID)}
}

// NewProvider returns a provider without any fleet: plugins are started when their entry asks for its
// first job.
func NewProvider(o Options) *Provider {
	return &Provider{options: o, fleets: map[identity]*fleet{}}
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
	f := p.fleet(runner)
	if err := f.start(ctx, runner); err != nil {
		return nil, fmt.Errorf("initializing taskscaler: %w", err)
	}
	if err := f.configure(runner); err != nil {
		return nil, fmt.Errorf("configuring taskscaler schedules: %w", err)
	}
	return f.reserve(runner)
}

// Reload retires the fleets of entries that are gone from the configuration, each once its last slot
// was released.
func (p *Provider) Reload(runners []*config.Runner) {
	wanted := map[identity]bool{}
	for _, runner := range runners {
		if runner.Executor == p.options.Name {
			wanted[identityOf(runner)] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, f := range p.fleets {
		if wanted[id] {
			continue
		}
		delete(p.fleets, id)
		p.retiring.Go(func() {
			f.drain()
			f.shutdown(context.Background())
		})
	}
}

// Shutdown shuts all fleets down, side by side.
func (p *Provider) Shutdown(ctx context.Context) {
	p.mu.Lock()
	fleets := p.fleets
	p.fleets = map[identity]*fleet{}
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

func (p *Provider) fleet(runner *config.Runner) *fleet {
	p.mu.Lock()
	defer p.mu.Unlock()
	id := identityOf(runner)
	f, ok := p.fleets[id]
	if !ok {
		f = newFleet(p.options)
		p.fleets[id] = f
	}
	return f
}

// noCapacity is the refusal of a reservation.
type noCapacity struct{ err error }

func (e noCapacity) Error() string { return "reserving taskscaler capacity: " + e.err.Error() }

func (e noCapacity) Unwrap() error { return e.err }

func (e noCapacity) Is(target error) bool { return target == common.ErrNoFreeExecutor }

var errNoAutoscalerConfig = errors.New("executor requires autoscaler config: add [runners.autoscaler] to the entry")
