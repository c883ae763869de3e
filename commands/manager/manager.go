// Package manager asks GitLab for jobs of all runner entries and runs them. It keeps the limits of the
// configuration, reloads it when it changes, and ends gracefully or at once as it is told.
//
// The run command makes one; nothing else imports it. The way of a job from here: feed → worker → job →
// common.Build.
package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/session"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

// Options say what a Manager needs.
type Options struct {
	// File is the configuration to begin with.
	File *config.File
	// ConfigPath is where it is loaded again from when it changes; empty if it is on no disk.
	ConfigPath string
	// Providers are the executors there are, by name.
	Providers map[string]common.ExecutorProvider
	// Fleets are those of the executors that have instances; nil if none does.
	Fleets  Fleets
	Network *network.Client
	// RemoteCache returns where an entry's caches are kept, nil if only on the machines of jobs.
	RemoteCache func(*config.Runner) (common.RemoteCache, error)
	Log         *logrus.Logger
	Version     version.Info
	Hostname    string
	SystemID    string
	Metrics     *Metrics
	// Sessions lets users into the containers of jobs; nil lets nobody in.
	Sessions *session.Server
	// Secrets keeps the secrets of jobs out of the log; nil if nothing does.
	Secrets Secrets
	// Apply is told of every configuration that comes into force.
	Apply func(*config.File)
	// Allow says whether another job may be asked for; nil always allows it.
	Allow func() bool
	// JobEnded is told of the end of every job, before its worker is free again; nil tells nobody.
	JobEnded func()
	// Account is told of every job that was run; nil tells nobody.
	Account func(Account)
	// Progress is told of every new state of the process, and while entries are verified at the start every
	// ProgressInterval that it is still starting; nil tells nobody.
	Progress func(ProcessState)
}

// Account is what is told of a job that was run.
type Account struct {
	Runner            *config.Runner
	Job               *spec.Job
	URL               string
	Result            common.Result
	Started, Finished time.Time
}

// Manager runs jobs. It is made for one call of Run.
type Manager struct {
	options Options
	log     *logrus.Logger

	workers  *limiter
	health   *health
	pauses   *pauses
	requests *requests
	ids      *concurrentIDs
	jobs     *jobList
	running  sync.WaitGroup

	// loading is held while a configuration is read and put into force, so that they come into force one after the
	// other. It is taken before mu.
	loading sync.Mutex
	// exchanged are the tokens that the file may not have yet, by those that it has. loading protects them.
	exchanged map[oldToken]*newToken

	mu     sync.Mutex
	config *config.File
	// failed is the version of the file that could not be loaded, so that it is complained about once.
	failed fileVersion
	state  ProcessState
	// unverified are the entries whose verification at the start is not done.
	unverified []*config.Runner
}

// ProcessState is how far the process is on its way to its end.
type ProcessState string

// The states of the process.
const (
	Starting         ProcessState = "starting"
	Running          ProcessState = "running"
	GracefulShutdown ProcessState = "graceful-shutdown"
	ForcefulShutdown ProcessState = "forceful-shutdown"
)

// The ways in which Run ends early.
var (
	// ErrShutdownTimeout: jobs or executors were not done in time.
	ErrShutdownTimeout = errors.New("shutdown timed out")
	// ErrForcedExit: a second signal asked to exit at once.
	ErrForcedExit = errors.New("forced exit")
)

// New returns a manager whose configuration is in force.
func New(o Options) *Manager {
	m := &Manager{
		options: o, log: o.Log, state: Starting, unverified: toVerify(o.File),
		workers: newLimiter(0), health: newHealth(), pauses: newPauses(), requests: newRequests(), ids: newConcurrentIDs(), jobs: newJobList(),
		exchanged: map[oldToken]*newToken{},
	}
	m.apply(o.File)
	o.Metrics.watch(m)
	return m
}

// Run works until signals asks it to stop, and returns when everything has ended. SIGQUIT waits for
// running jobs, SIGTERM and SIGINT abort them; see Signal. Both abort the verification of entries, before
// whose end no job is asked for. If that fails Run ends by itself, with an error that wraps ErrBootVerification.
func (m *Manager) Run(signals <-chan Signal) error {
	feeding, stopFeeding := context.WithCancelCause(context.Background())
	defer stopFeeding(nil)
	working, abort := context.WithCancelCause(context.Background())
	defer abort(nil)

	var loops sync.WaitGroup
	begin := func() {
		m.setReady()
		m.setState(Running)
		loops.Go(func() { m.feed(feeding, working) })
		loops.Go(func() { m.watchConfig(feeding) })
	}
	idle := make(chan struct{})
	var once sync.Once
	// waitIdle is called when feeding has ended, so that nothing begins any more.
	waitIdle := func() {
		once.Do(func() {
			go func() {
				loops.Wait()
				m.running.Wait()
				close(idle)
			}()
		})
	}

	verified := make(chan error, 1)
	var progress <-chan time.Time
	if runners := m.unverified; len(runners) == 0 {
		begin()
	} else {
		m.setState(Starting)
		ticker := time.NewTicker(ProgressInterval)
		defer ticker.Stop()
		progress = ticker.C
		loops.Go(func() { verified <- m.verifyBoot(feeding, runners) })
	}

	var failure error
	var deadline <-chan time.Time
	reloadLater := false
	for {
		select {
		case <-progress:
			if m.State() == Starting {
				m.setState(Starting)
			}
		case err := <-verified:
			switch {
			case feeding.Err() != nil:
				// It was told to stop meanwhile.
			case err != nil:
				failure = err
				m.setState(GracefulShutdown)
				stopFeeding(err)
				waitIdle()
			default:
				if reloadLater {
					m.reload(true)
				}
				begin()
			}
		case <-idle:
			err := m.shutdownProviders(deadline, signals)
			if failure != nil && err != nil {
				return fmt.Errorf("%w; %w", failure, err)
			}
			return cmp.Or(failure, err)
		case <-deadline:
			return fmt.Errorf("%w after %s", ErrShutdownTimeout, m.shutdownTimeout())
		case signal := <-signals:
			switch {
			case signal.Kind == Reload && m.State() == Starting:
				reloadLater = true
			case signal.Kind == Reload:
				m.reload(true)
			case signal.Kind == Graceful && (m.State() == Starting || m.State() == Running):
				m.log.WithField("StopSignal", signal.Name).Warning("Starting graceful shutdown, waiting for builds to finish")
				m.setState(GracefulShutdown)
				stopFeeding(errShutdown)
				waitIdle()
			case signal.Kind == Forceful && m.State() != ForcefulShutdown:
				m.log.WithField("StopSignal", signal.Name).Warning("Starting forceful shutdown")
				m.setState(ForcefulShutdown)
				stopFeeding(errShutdown)
				abort(common.Fail(common.RunnerInterrupted, fmt.Errorf("aborted: %s", signal.Name)))
				deadline = time.After(m.shutdownTimeout())
				waitIdle()
			case signal.Kind == Forceful:
				return fmt.Errorf("%w: %s", ErrForcedExit, signal.Name)
			}
		}
	}
}

var errShutdown = errors.New("the runner is shutting down")

// shutdownProviders gives up what executors hold, as far as the time allows: what is left of deadline
// after a forceful stop, else a period of its own.
func (m *Manager) shutdownProviders(deadline <-chan time.Time, signals <-chan Signal) error {
	if deadline == nil {
		deadline = time.After(m.shutdownTimeout())
	}
	m.log.Info("Shutting down executor providers")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all sync.WaitGroup
		for _, provider := range m.options.Providers {
			all.Go(func() { provider.Shutdown(ctx) })
		}
		all.Wait()
	}()
	for {
		select {
		case <-done:
			m.log.Info("All executor providers shut down.")
			m.log.Info("Can exit now!")
			return nil
		case <-deadline:
			m.log.Error("Executor providers shutdown timeout exceeded")
			cancel(ErrShutdownTimeout)
			<-done
			return fmt.Errorf("%w: executor providers", ErrShutdownTimeout)
		case signal := <-signals:
			if signal.Kind == Forceful && m.State() == ForcefulShutdown {
				cancel(ErrForcedExit)
				<-done
				return fmt.Errorf("%w: %s", ErrForcedExit, signal.Name)
			}
			if signal.Kind == Forceful {
				m.setState(ForcefulShutdown)
			}
		}
	}
}

func (m *Manager) shutdownTimeout() time.Duration { return m.Config().ShutdownLimit() }

// Config returns the configuration in force. It is not to be changed.
func (m *Manager) Config() *config.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.config
}

// State returns the state of the process.
func (m *Manager) State() ProcessState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

func (m *Manager) setState(state ProcessState) {
	m.mu.Lock()
	m.state = state
	m.mu.Unlock()
	if m.options.Progress != nil {
		m.options.Progress(state)
	}
}

// Jobs returns the jobs under way.
func (m *Manager) Jobs() []JobStatus { return m.jobs.all() }

// apply puts a configuration into force.
func (m *Manager) apply(file *config.File) {
	for _, runner := range file.Runners {
		runner.SystemID = m.options.SystemID
	}
	m.warnAbout(file)
	m.mu.Lock()
	if m.config != nil {
		file.Continue(m.config)
	}
	m.config = file
	m.mu.Unlock()
	m.requests.keep(file.Runners)
	m.workers.setLimit(file.Concurrent)
	m.health.reset()
	for _, provider := range m.options.Providers {
		provider.Reload(file.Runners)
	}
	m.options.Apply(file)
	m.options.Metrics.ConfigurationLoaded(file)
	m.log.WithField("runners", len(file.Runners)).Info("Configuration loaded")
}

// info is what the server is told of an entry.
func (m *Manager) info(runner *config.Runner, provider common.ExecutorProvider) spec.RunnerVersion {
	return m.options.Network.RunnerInfo(runner, provider.Features(), provider.DefaultShell(), m.Config().Labels)
}

// SignalKind is what a signal asks for.
type SignalKind int

// The kinds of signals.
const (
	// Graceful: take no more jobs and wait for those that run.
	Graceful SignalKind = iota
	// Forceful: abort the jobs. A second one: exit at once.
	Forceful
	// Reload: load the configuration again, changed or not.
	Reload
)

// Signal is a signal that the process received.
type Signal struct {
	Kind SignalKind
	// Name is the system's, such as "terminated".
	Name string
}

// SignalOf translates a signal of the operating system.
func SignalOf(kind SignalKind, s os.Signal) Signal { return Signal{Kind: kind, Name: s.String()} }
