package taskscaler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	fleetingmetrics "gitlab.com/gitlab-org/fleeting/fleeting/metrics"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
	"gitlab.com/gitlab-org/fleeting/taskscaler/metrics"
	"gitlab.com/gitlab-org/fleeting/taskscaler/storage"
)

const (
	// evaluationInterval is the time between two evaluations when nothing happens.
	evaluationInterval = time.Second

	// heartbeatTimeout bounds one health check.
	heartbeatTimeout = 30 * time.Second
)

// scaler is the Taskscaler that New returns.
type scaler struct {
	logger      hclog.Logger
	options     options
	provisioner *fleeting.Provisioner
	recorder    *recorder
	timetable   atomic.Pointer[timetable]

	// ctx ends, with a cause that wraps ErrShutdown, when Shutdown begins.
	ctx  context.Context
	stop context.CancelCauseFunc
	// work counts the goroutines that prepare and check instances.
	work sync.WaitGroup
	// shutdown makes sure that there is one; ended is closed when it is complete.
	shutdown sync.Once
	ended    chan struct{}

	inbox    inbox
	commands chan command
	quit     chan struct{}
	// done is closed when the goroutine has ended.
	done chan struct{}

	// What follows is owned by the goroutine.

	state   *fleet.State
	members map[*fleet.Instance]*member
	known   map[fleeting.Instance]*member
	// memories are the stored states of instances that have not been seen since the start.
	memories     map[string]*storage.State
	acquisitions map[string]*acquisition
	offers       map[string]chan offer
	// capacity is what the provisioner counted when its instances were last taken in.
	capacity      fleeting.Capacity
	capacityKnown bool
	buffer        []fleet.Decision
	report        report
	history       history
}

var (
	_ Taskscaler       = (*scaler)(nil)
	_ InstanceReporter = (*scaler)(nil)
	_ Inspector        = (*scaler)(nil)
)

// command is a function to be run by the goroutine.
type command struct {
	run func(now time.Time)
	// evaluate tells that decisions may follow.
	evaluate bool
	done     chan struct{}
}

// offer tells a waiting Acquire that a slot was found.
type offer struct {
	on        *member
	placement int
}

// New initialises the instance group, which must be done before ctx ends, and starts a scaler on it.
// The scaler itself does not depend on ctx: it runs until Shutdown, which must be called in the end.
// No schedule is in force before ConfigureSchedule is called.
//
// The returned value implements InstanceReporter and Inspector as well.
func New(ctx context.Context, group provider.InstanceGroup, list ...Option) (Taskscaler, error) {
	o := newOptions(list)
	s := &scaler{
		logger:       o.logger,
		options:      o,
		ended:        make(chan struct{}),
		inbox:        inbox{wake: make(chan struct{}, 1)},
		commands:     make(chan command),
		quit:         make(chan struct{}),
		done:         make(chan struct{}),
		members:      map[*fleet.Instance]*member{},
		known:        map[fleeting.Instance]*member{},
		acquisitions: map[string]*acquisition{},
		offers:       map[string]chan offer{},
	}
	s.ctx, s.stop = context.WithCancelCause(context.Background())
	s.timetable.Store(&timetable{})
	s.loadMemories()

	provisioner, err := fleeting.Init(ctx, o.logger, group, o.provisionerOptions(s.inbox.put)...)
	if err != nil {
		s.stop(err)
		return nil, fmt.Errorf("starting provisioner: %w", err)
	}
	s.provisioner = provisioner
	s.recorder = newRecorder(o.storage, o.logger)
	s.state = fleet.New(limitedTo(o.fleet, provisioner.Capacity().Max))

	o.collector.SetMaxTasksPerInstance(s.state.CapacityPerInstance())
	o.collector.SetMaxUseCountPerInstance(o.fleet.MaxUseCount)
	go s.run()
	return s, nil
}

func (s *scaler) loadMemories() {
	s.memories = map[string]*storage.State{}
	if s.options.storage == nil {
		return
	}
	states, err := s.options.storage.List()
	if err != nil {
		s.logger.Error("stored state of some instances is lost", "err", err)
	}
	for _, state := range states {
		s.memories[state.ID] = &state
	}
}

// run is the goroutine that owns the state.
func (s *scaler) run() {
	defer close(s.done)
	ticker := time.NewTicker(evaluationInterval)
	defer ticker.Stop()

	s.cycle(false)
	for {
		tick := false
		select {
		case c := <-s.commands:
			if !s.execute(c) {
				continue
			}
		case <-s.inbox.wake:
		case <-ticker.C:
			tick = true
		case <-s.quit:
			s.cycle(false)
			return
		}
		s.cycle(tick)
	}
}

// execute runs a command and those that wait behind it, so that many need one evaluation only. It tells
// whether they need one.
func (s *scaler) execute(c command) (evaluate bool) {
	const most = 64
	for n := 1; ; n++ {
		c.run(time.Now())
		close(c.done)
		evaluate = evaluate || c.evaluate
		if n == most {
			return evaluate
		}
		select {
		case c = <-s.commands:
		default:
			return evaluate
		}
	}
}

// do has a function that changes the state run by the goroutine, waits for it and has what follows from
// the change carried out. It returns false if the goroutine has ended.
func (s *scaler) do(fn func(now time.Time)) bool { return s.send(command{run: fn, evaluate: true}) }

// ask is like do for a function that changes nothing from which anything could follow at once.
func (s *scaler) ask(fn func(now time.Time)) bool { return s.send(command{run: fn}) }

func (s *scaler) send(c command) bool {
	c.done = make(chan struct{})
	select {
	case s.commands <- c:
		<-c.done
		return true
	case <-s.done:
		return false
	}
}

// cycle takes in what the provisioner knows and carries out what follows from the state.
func (s *scaler) cycle(tick bool) {
	now := time.Now()
	s.observe(now)
	s.state.SetPolicy(s.timetable.Load().at(now).policy())
	for {
		plan := s.state.Plan(now, s.buffer)
		s.buffer = plan.Decisions
		s.reportPlan(plan, tick, now)
		if len(plan.Decisions) == 0 {
			return
		}
		for _, d := range plan.Decisions {
			s.carryOut(d, now)
		}
	}
}

// Shutdown implements Taskscaler.
func (s *scaler) Shutdown(ctx context.Context) {
	s.shutdown.Do(func() {
		go func() {
			defer close(s.ended)
			s.end(ctx)
		}()
	})
	// Every step of it is bounded by ctx.
	<-s.ended
}

func (s *scaler) end(ctx context.Context) {
	s.do(func(time.Time) { s.state.Stop() })
	s.stop(ErrShutdown)
	s.provisioner.Shutdown(ctx)

	prepared := make(chan struct{})
	go func() {
		s.work.Wait()
		close(prepared)
	}()
	select {
	case <-prepared:
	case <-ctx.Done():
		s.logger.Error("functions that prepare instances did not return in time", "err", context.Cause(ctx))
	}

	close(s.quit)
	<-s.done
	s.recorder.close(ctx)
}

// HasCapability implements Taskscaler.
func (s *scaler) HasCapability(capability provider.Capability) bool {
	return s.provisioner.HasCapability(capability)
}

// ConfigureSchedule implements Taskscaler.
func (s *scaler) ConfigureSchedule(schedules ...Schedule) error {
	table, err := newTimetable(schedules)
	if err != nil {
		return fmt.Errorf("configuring schedules: %w", err)
	}
	s.timetable.Store(&table)
	// The next reservation must be judged by the new policy.
	s.do(func(now time.Time) { s.state.SetPolicy(table.at(now).policy()) })
	return nil
}

// Schedule implements Taskscaler.
func (s *scaler) Schedule() Schedule { return s.timetable.Load().at(time.Now()) }

// Capacity implements Taskscaler.
func (s *scaler) Capacity() (available, potential int) {
	s.ask(func(now time.Time) { available, potential = s.state.Capacity(now) })
	return available, potential
}

// MetricsCollector implements Taskscaler.
func (s *scaler) MetricsCollector() metrics.Collector { return s.options.collector }

// FleetingMetricsCollector implements Taskscaler.
func (s *scaler) FleetingMetricsCollector() fleetingmetrics.Collector { return s.options.fleetMetrics }

// ReportLost implements InstanceReporter.
func (s *scaler) ReportLost(instanceID string, cause error) {
	if cause == nil {
		cause = errors.New("reported lost")
	}
	s.do(func(time.Time) {
		for in, m := range s.members {
			if m.id() == instanceID && !in.Gone() && !in.Deleting() && !in.Lost() {
				m.reported = cause
				s.state.ReportLost(in, cause.Error())
			}
		}
	})
}
