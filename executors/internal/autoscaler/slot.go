package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"gitlab.com/gitlab-org/fleeting/taskscaler"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
)

const (
	defaultAcquireTimeout = 15 * time.Minute

	// noticeAfter is how long a job waits for its instance before its log says so.
	noticeAfter = 3 * time.Second

	// toldWithin bounds the wait until jobs know that their instance was given up.
	toldWithin = time.Second

	// instanceTries bounds how many instances one preparation tries that turn out to be dead. Nothing
	// of the user's has run by then, so that a dead instance need not fail a job.
	instanceTries = 3

	defaultSlotCgroup = "gitlab-runner/slot-${slot}"
	slotCgroupKey     = "GITLAB_RUNNER_SLOT_CGROUP"
)

// slot implements common.Slot: a reservation first, an acquisition once the job is prepared. It is also
// the environment of the job's executors.
type slot struct {
	fleet  *fleet
	runner *config.Runner
	key    string

	mu          sync.Mutex
	acquisition taskscaler.Acquisition
	// unreachable says that the instance could not be connected to at the last try.
	unreachable bool
	// connecting is how long connections took, or the wait for one that another job opened.
	connecting time.Duration
	// unusable counts tries at which the instance was there and nothing on it could run the job.
	unusable int
}

var (
	_ common.Slot           = (*slot)(nil)
	_ executors.Environment = (*slot)(nil)
	_ executors.Slotted     = (*slot)(nil)
)

// NewExecutor implements common.Slot.
func (s *slot) NewExecutor(job *common.Job) common.Executor {
	return &executor{Executor: s.fleet.options.Inner.NewExecutor(job, s), slot: s, job: job}
}

// Watch implements common.Slot.
func (s *slot) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	acquisition := s.current()
	if acquisition == nil {
		return context.WithCancel(ctx)
	}
	watched, stop := acquisition.WithContext(ctx)
	told, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(watched, func() {
		cause := context.Cause(watched)
		if ctx.Err() == nil && cause != nil && !errors.Is(cause, context.Canceled) {
			advice := "look for what removed or stopped it in the events of the cloud provider"
			if s.fleet.options.Inner.Stopped(cause) {
				advice = "it may have run out of memory or disk: see the engine's log on an instance of the same kind"
			}
			cause = fmt.Errorf("instance %s was lost during the job: %w; %s", acquisition.InstanceID(), cause, advice)
		}
		cancel(cause)
	})
	return told, func() {
		unhook()
		stop()
		cancel(context.Canceled)
	}
}

// Renew implements common.Slot: the next executor acquires another instance.
func (s *slot) Renew(cause error) bool {
	if s.current() == nil {
		return false
	}
	s.abandon(cause)
	return true
}

// Release implements common.Slot.
func (s *slot) Release() {
	defer s.fleet.gate.leave()
	log := s.fleet.log.WithField("key", s.key)
	if s.current() != nil {
		s.fleet.scaler.Release(s.key)
		log.Trace("Released capacity...")
		return
	}
	s.fleet.scaler.Unreserve(s.key)
	log.Trace("Unreserved capacity...")
}

// ID implements executors.Environment: the instance's id, once there is one.
func (s *slot) ID() string {
	if acquisition := s.current(); acquisition != nil {
		return acquisition.InstanceID()
	}
	return ""
}

// Connect implements executors.Environment.
func (s *slot) Connect(ctx context.Context) (executors.Client, error) {
	acquisition := s.current()
	if acquisition == nil {
		return nil, errors.New("no instance was acquired")
	}
	// A plugin that is being restarted, or a cloud whose interface is down, is no reason to fail jobs on instances that
	// are connected.
	if client, ok := s.connected(ctx, acquisition); ok {
		return client, nil
	}
	info, err := acquisition.InstanceConnectInfo(ctx)
	if errors.Is(err, taskscaler.ErrInstanceUnexpectedlyRemoved) {
		return nil, fmt.Errorf("%w: getting instance connect info: %w", executors.ErrGone, err)
	}
	if err != nil {
		return nil, fmt.Errorf("getting instance connect info: %w", err)
	}
	info.ID = acquisition.InstanceID()
	started := time.Now()
	client, err := s.fleet.connections.get(ctx, info)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.connecting += time.Since(started)
	s.unreachable = err != nil
	return client, err
}

// connected returns the instance's connection if it is open and the instance has not been lost.
func (s *slot) connected(ctx context.Context, acquisition taskscaler.Acquisition) (executors.Client, bool) {
	watched, stop := acquisition.WithContext(ctx)
	defer stop()
	if watched.Err() != nil {
		return nil, false
	}
	client, ok := s.fleet.connections.opened(acquisition.InstanceID())
	if ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unreachable = false
	}
	return client, ok
}

// Slot implements executors.Slotted: the slot's number, -1 before there is an instance.
func (s *slot) Slot() int {
	if acquisition := s.current(); acquisition != nil {
		return acquisition.Slot()
	}
	return -1
}

func (s *slot) current() taskscaler.Acquisition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acquisition
}

// acquire waits for an instance. A second call keeps the first one's.
func (s *slot) acquire(ctx context.Context) (taskscaler.Acquisition, error) {
	if acquisition := s.current(); acquisition != nil {
		return acquisition, nil
	}
	limit := s.runner.Autoscaler.InstanceAcquireTimeout
	if limit <= 0 {
		limit = defaultAcquireTimeout
	}
	limited, stop := context.WithTimeout(ctx, limit)
	defer stop()
	acquisition, err := s.fleet.scaler.Acquire(limited, s.key)
	if err == nil {
		s.fleet.log.WithField("key", s.key).Trace("Acquired capacity...")
		s.mu.Lock()
		defer s.mu.Unlock()
		s.acquisition, s.unreachable, s.unusable = acquisition, false, 0
		return acquisition, nil
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	hint := ""
	if failure := s.fleet.ready.lastFailure(); failure != nil {
		hint = fmt.Sprintf(" (the latest instance did not become ready: %v)", failure)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("unable to acquire instance within the configured timeout of %s: %w%s", limit, context.DeadlineExceeded, hint)
	}
	return nil, fmt.Errorf("unable to acquire instance: %w%s", err, hint)
}

// abandon gives an instance up that cannot be used, so that the next acquire gets another one.
func (s *slot) abandon(cause error) {
	s.mu.Lock()
	acquisition := s.acquisition
	s.acquisition = nil
	s.mu.Unlock()
	s.fleet.lost(acquisition.InstanceID(), cause)
	s.fleet.scaler.Release(s.key)
}

// dead says whether an error with which the wrapped executor could not connect means that the slot is
// of no use. What cannot be reached is dead. An engine that worked before and does not answer may be
// about to start again, and has one more try. One that never worked is a fault of the configuration, or
// for instance_ready_command to find: other instances would be no better.
func (s *slot) dead(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unreachable || errors.Is(err, taskscaler.ErrInstanceUnexpectedlyRemoved) {
		return true
	}
	if !s.fleet.options.Inner.Unusable(err) {
		return false
	}
	s.unusable++
	return s.unusable > 1 && s.fleet.connections.worked(s.acquisition.InstanceID())
}

func (s *slot) connectTime() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connecting
}

// executor is the wrapped executor, on the slot's instance.
type executor struct {
	common.Executor
	slot *slot
	job  *common.Job
}

// Connect acquires an instance and connects the wrapped executor to it. An instance that turns out to
// be dead is given up for another one: nothing of the user's has run yet.
func (e *executor) Connect(ctx context.Context) (common.Machine, error) {
	for try := 1; ; try++ {
		e.slot.fleet.log.WithField("job", e.job.Spec.ID).Info("Preparing instance...")
		started := time.Now()
		acquisition, err := e.await(ctx)
		if err != nil {
			return common.Machine{}, err
		}
		waited := time.Since(started)
		e.tell(ctx, acquisition)
		machine, err := e.connect(ctx, acquisition, waited)
		if err == nil {
			machine.Instance = acquisition.InstanceID()
			return e.inSlot(machine, acquisition.Slot()), nil
		}
		if ctx.Err() != nil || !e.slot.dead(err) || try == instanceTries {
			return common.Machine{}, err
		}
		e.job.Log.Warn("Instance %s cannot be used, trying another one: %v", acquisition.InstanceID(), err)
		e.slot.abandon(err)
		if err := e.Cleanup(ctx); err != nil {
			e.slot.fleet.log.WithError(err).WithField("instance", acquisition.InstanceID()).Warning("cleaning up on an instance that cannot be used failed")
		}
		e.Executor = e.slot.fleet.options.Inner.NewExecutor(e.job, e.slot)
	}
}

// Run runs a stage. An instance on which nothing will run any more is given up, for all jobs on it: the context says
// so then.
func (e *executor) Run(ctx context.Context, stage common.Stage) error {
	err := e.Executor.Run(ctx, stage)
	if err == nil || ctx.Err() != nil || !e.slot.fleet.options.Inner.Stopped(err) {
		return err
	}
	e.slot.fleet.lost(e.slot.ID(), err)
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(toldWithin):
		return err
	}
}

// await waits for an instance, and tells the user so if it takes a while.
func (e *executor) await(ctx context.Context) (taskscaler.Acquisition, error) {
	notice := time.AfterFunc(noticeAfter, func() {
		e.job.Log.Print("Waiting for an instance...")
	})
	defer notice.Stop()
	return e.slot.acquire(ctx)
}

// connect connects as long as the instance is there, and says where the time went.
func (e *executor) connect(ctx context.Context, acquisition taskscaler.Acquisition, waited time.Duration) (common.Machine, error) {
	watched, stop := acquisition.WithContext(ctx)
	defer stop()
	started, connected := time.Now(), e.slot.connectTime()
	machine, err := e.Executor.Connect(watched)
	if watched.Err() != nil && ctx.Err() == nil {
		return common.Machine{}, fmt.Errorf("instance %s was lost while connecting to it: %w", acquisition.InstanceID(), context.Cause(watched))
	}
	if err == nil {
		e.slot.fleet.connections.works(acquisition.InstanceID())
		connecting := e.slot.connectTime() - connected
		e.job.Log.Print("Instance %s connected", acquisition.InstanceID())
		e.job.Log.Print("Waited %s for the instance, %s for the connection, %s for the engine",
			seconds(waited), seconds(connecting), seconds(time.Since(started)-connecting))
	}
	return machine, err
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1fs", d.Seconds()) }

// tell says which instance the job got, and where it is if the operator wants that known.
func (e *executor) tell(ctx context.Context, acquisition taskscaler.Acquisition) {
	text := "Dialing instance " + acquisition.InstanceID()
	if c := e.slot.runner.Autoscaler; c.LogInternalIP || c.LogExternalIP {
		if info, err := acquisition.InstanceConnectInfo(ctx); err == nil {
			if c.LogInternalIP {
				text += ", " + info.InternalAddr
			}
			if c.LogExternalIP {
				text += ", " + info.ExternalAddr
			}
		}
	}
	e.job.Log.Print("%s...", text)
}

// inSlot tells the job of its slot's cgroup, if those are used.
func (e *executor) inSlot(machine common.Machine, number int) common.Machine {
	if !e.slot.runner.UseSlotCgroups {
		return machine
	}
	template := e.slot.runner.SlotCgroupTemplate
	if template == "" {
		template = defaultSlotCgroup
	}
	cgroup := os.Expand(template, func(name string) string {
		if name == "slot" {
			return fmt.Sprint(number)
		}
		return ""
	})
	machine.ExtraVariables = append(machine.ExtraVariables, spec.Variable{
		Key: slotCgroupKey, Value: cgroup, Public: true, Internal: true, Raw: true,
	})
	return machine
}
