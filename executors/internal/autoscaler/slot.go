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
	dialled     bool
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
			cause = fmt.Errorf("instance %s was lost during the job: %w; look for what removed or stopped it in the events of the cloud provider", acquisition.InstanceID(), cause)
		}
		cancel(cause)
	})
	return told, func() {
		unhook()
		stop()
		cancel(context.Canceled)
	}
}

// Release implements common.Slot.
func (s *slot) Release() {
	defer s.fleet.slots.Done()
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
	info, err := acquisition.InstanceConnectInfo(ctx)
	if err != nil {
		return nil, fmt.Errorf("getting instance connect info: %w", err)
	}
	info.ID = acquisition.InstanceID()
	client, err := s.fleet.connections.get(ctx, info)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialled = true
	return client, nil
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
		s.acquisition, s.dialled = acquisition, false
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

// abandon gives an instance up that could not be reached, so that the next acquire gets another one.
func (s *slot) abandon(cause error) {
	s.mu.Lock()
	acquisition := s.acquisition
	s.acquisition = nil
	s.mu.Unlock()
	s.fleet.lost(acquisition.InstanceID(), cause)
	s.fleet.scaler.Release(s.key)
}

func (s *slot) reached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialled
}

// executor is the wrapped executor, on the slot's instance.
type executor struct {
	common.Executor
	slot *slot
	job  *common.Job
}

// Connect acquires an instance and connects the wrapped executor to it. An instance that cannot be
// reached is given up for another one.
func (e *executor) Connect(ctx context.Context) (common.Machine, error) {
	for try := 1; ; try++ {
		e.slot.fleet.log.WithField("job", e.job.Spec.ID).Info("Preparing instance...")
		started := time.Now()
		acquisition, err := e.slot.acquire(ctx)
		if err != nil {
			return common.Machine{}, err
		}
		e.tell(ctx, acquisition, time.Since(started))
		machine, err := e.connect(ctx, acquisition)
		if err == nil {
			return e.inSlot(machine, acquisition.Slot()), nil
		}
		if ctx.Err() != nil || e.slot.reached() || try == instanceTries {
			return common.Machine{}, err
		}
		e.job.Log.Warn("Instance %s cannot be reached, trying another one: %v", acquisition.InstanceID(), err)
		e.slot.abandon(err)
		if err := e.Cleanup(ctx); err != nil {
			return common.Machine{}, fmt.Errorf("giving up on instance %s: %w", acquisition.InstanceID(), err)
		}
		e.Executor = e.slot.fleet.options.Inner.NewExecutor(e.job, e.slot)
	}
}

// connect connects as long as the instance is there.
func (e *executor) connect(ctx context.Context, acquisition taskscaler.Acquisition) (common.Machine, error) {
	watched, stop := acquisition.WithContext(ctx)
	defer stop()
	machine, err := e.Executor.Connect(watched)
	if err != nil && watched.Err() != nil && ctx.Err() == nil {
		return common.Machine{}, fmt.Errorf("instance %s was lost while connecting to it: %w", acquisition.InstanceID(), context.Cause(watched))
	}
	if err == nil {
		e.job.Log.Print("Instance %s connected", acquisition.InstanceID())
	}
	return machine, err
}

// tell says which instance the job got, and where it is if the operator wants that known.
func (e *executor) tell(ctx context.Context, acquisition taskscaler.Acquisition, waited time.Duration) {
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
	if waited >= time.Second {
		e.job.Log.Print("Waited %s for an instance", waited.Round(100*time.Millisecond))
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
