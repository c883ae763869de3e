package fleet

import (
	"slices"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// State is everything that is known about instances and tasks.
type State struct {
	config Config
	policy Policy

	// instances are in the order of their discovery.
	instances []*Instance
	tasks     map[string]*Task
	// queue holds the waiting tasks, the next one first.
	queue        []*Task
	reservations map[string]struct{}

	// outstanding is the number of instances that were asked for and not yet seen; unseen is the same
	// by our own account, and is larger when the group refused some.
	outstanding int
	unseen      int
	// existing is the number of instances, in any state, that the provisioner counts.
	existing int

	readiness backoff
	requests  backoff

	// vanished holds the ids of instances that were used and disappeared without being deleted.
	vanished map[string]time.Time

	stopping bool
}

// New returns the State of an empty fleet.
func New(config Config) *State {
	if config.MaxUseCount > 0 {
		// Further slots of an instance would never be used.
		config.CapacityPerInstance = min(config.CapacityPerInstance, config.MaxUseCount)
	}
	return &State{
		config:       config,
		tasks:        map[string]*Task{},
		reservations: map[string]struct{}{},
		vanished:     map[string]time.Time{},
		readiness:    backoff{limit: maxReadinessBackoff},
		requests:     backoff{limit: maxRequestBackoff},
	}
}

// CapacityPerInstance is the number of slots of an instance that can be used.
func (s *State) CapacityPerInstance() int { return s.config.CapacityPerInstance }

// SetPolicy replaces the policy.
func (s *State) SetPolicy(policy Policy) { s.policy = policy }

// Stop ends scaling and placing: from now on plans only follow what becomes of the instances.
func (s *State) Stop() { s.stopping = true }

// Instances returns all instances in the order of their discovery. The slice must not be changed.
func (s *State) Instances() []*Instance { return s.instances }

// Task returns the task with a key, or nil.
func (s *State) Task(key string) *Task { return s.tasks[key] }

// Memory is what is known about an instance from before a restart.
type Memory struct {
	Used      int
	Removal   string
	IdleSince time.Time
	Tasks     []RememberedTask
}

// RememberedTask is a task that held a slot before a restart.
type RememberedTask struct {
	Key       string
	Slot      int
	Suspended bool
}

// maxRememberedSlot keeps a nonsensical number from taking all memory.
const maxRememberedSlot = 1 << 12

// Discover records an instance that was not seen before. memory is nil if nothing is known about it.
func (s *State) Discover(id string, origin Origin, state provider.State, memory *Memory, now time.Time) *Instance {
	in := &Instance{id: id, origin: origin, state: state, foundAt: now, idleSince: now}
	if state == provider.StateRunning {
		in.runningAt = now
	}
	if _, in.returned = s.vanished[id]; in.returned {
		delete(s.vanished, id)
	}
	if origin == Requested {
		s.unseen = max(0, s.unseen-1)
		s.requests.succeed()
	}
	if memory != nil {
		s.restore(in, memory, now)
	}
	s.instances = append(s.instances, in)
	return in
}

func (s *State) restore(in *Instance, memory *Memory, now time.Time) {
	in.restored = true
	in.used = memory.Used
	in.oldRemoval = memory.Removal
	if memory.IdleSince.Before(now) {
		// A later time was written before the clock was put back: the instance would idle until it comes.
		in.idleSince = memory.IdleSince
	}

	asleep := in.state == provider.StateSuspending || in.state == provider.StateSuspended
	if asleep || in.state == provider.StateResuming {
		// It was prepared before it was suspended.
		in.phase = ready
		in.suspending = asleep
	}
	for _, remembered := range memory.Tasks {
		if in.phase == ready && !remembered.Suspended {
			// The instance was stopped under the task, whose owner died with the last process. There
			// will be no preparation to release it.
			continue
		}
		if s.tasks[remembered.Key] != nil {
			continue
		}
		phase := taskActive
		if remembered.Suspended {
			phase = taskSuspended
		}
		t := &Task{key: remembered.Key}
		s.tasks[t.key] = t
		slot := remembered.Slot
		if slot < 0 || slot > maxRememberedSlot || slot < len(in.slots) && in.slots[slot] != nil {
			in.put(t, phase)
			continue
		}
		in.putAt(t, slot, phase)
	}
}

// Observe records the state of an instance as it is seen now.
func (s *State) Observe(in *Instance, state provider.State, now time.Time) {
	before := in.state
	if before == state || in.Gone() {
		return
	}
	in.state = state

	switch {
	case in.Gone():
		if in.deleting || s.stopping {
			return
		}
		if in.phase != ready && in.phase != unfit && in.origin != Preexisted {
			s.readiness.fail(in.foundAt, now)
		}
		if in.phase != found {
			s.remember(in.id, now)
		}
	case state == provider.StateRunning:
		if in.runningAt.IsZero() {
			in.runningAt = now
		}
		if in.suspending && before != provider.StateCreating && in.tasks[taskResuming] == 0 {
			// The suspension failed, or somebody else resumed the instance.
			in.suspending = false
			in.nextSuspend = now.Add(suspendRetryDelay)
		}
	}
}

// remember keeps the id of a vanished instance: should the instance come back, it has an unknown past.
func (s *State) remember(id string, now time.Time) {
	for old, at := range s.vanished {
		if now.Sub(at) > vanishedMemory {
			delete(s.vanished, old)
		}
	}
	s.vanished[id] = now
}

// SetProvisioned records the provisioner's counts: the instances that were asked for and not yet seen,
// and all instances that it knows, in any state.
func (s *State) SetProvisioned(outstanding, existing int, now time.Time) {
	s.outstanding, s.existing = outstanding, existing
	if outstanding < s.unseen {
		s.unseen = outstanding
		s.requests.fail(now, now)
	}
}

// Prepared records the end of an instance's preparation; err is why it failed.
func (s *State) Prepared(in *Instance, err error, now time.Time) {
	if in.phase != preparing {
		return
	}
	if err != nil {
		in.phase = unfit
		if in.origin != Preexisted && !in.Gone() {
			s.readiness.fail(in.foundAt, now)
		}
		return
	}
	in.phase = ready
	if !in.restored {
		in.idleSince = now
	}
	if in.origin != Preexisted {
		s.readiness.succeed()
	}
}

// Checked records the end of a health check of an instance; err is why it failed.
func (s *State) Checked(in *Instance, err error, now time.Time) {
	in.checking = false
	s.examine(in, err, now)
}

func (s *State) examine(in *Instance, err error, now time.Time) {
	if err == nil {
		in.failures = 0
		return
	}
	in.failures++
	in.nextCheck = now.Add(doubled(healthCheckDelay, in.failures-1, maxHealthCheckDelay))
}

// ReportLost records that the user of an instance takes it for lost, and why.
func (s *State) ReportLost(in *Instance, cause string) {
	if in.disconnected == "" {
		in.disconnected = cause
	}
}

// Drain has an instance take no more tasks and removed when it has none. An instance that is suspended
// goes when its tasks were resumed and released.
func (s *State) Drain(in *Instance) { in.drained = true }

// forget removes an instance and the tasks that still hold it.
func (s *State) forget(in *Instance) {
	for _, t := range in.slots {
		if t != nil {
			in.take(t)
			delete(s.tasks, t.key)
		}
	}
	if i := slices.Index(s.instances, in); i >= 0 {
		s.instances = slices.Delete(s.instances, i, i+1)
	}
}
