package fleet

import (
	"math"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Instance is one instance, from its discovery until it is gone and no task holds it any more.
type Instance struct {
	id       string
	origin   Origin
	restored bool
	state    provider.State
	phase    instancePhase

	slots []*Task
	tasks [taskPhases]int
	used  int

	foundAt   time.Time
	runningAt time.Time
	idleSince time.Time

	// failures counts consecutive failed health checks.
	failures  int
	checking  bool
	nextCheck time.Time

	// removal is why the instance was marked for removal; empty if it was not.
	removal string
	// oldRemoval is why it was marked before the restart.
	oldRemoval string
	// deleting: the deletion was asked for.
	deleting bool

	// lost: its tasks were told that it is lost, for the reason loss.
	lost bool
	loss string
	// disconnected is why its user takes it for lost.
	disconnected string
	// drained: somebody wants it to take no more tasks and to go.
	drained bool
	// returned: an instance with the same id vanished before.
	returned bool

	// suspending: the suspension was asked for and has not been undone.
	suspending  bool
	nextSuspend time.Time
}

// Origin is why an instance exists.
type Origin int

// The origins of instances.
const (
	// Preexisted: it was there before the scaler started.
	Preexisted Origin = iota
	// Requested: the scaler asked for it.
	Requested
	// Unexpected: it appeared without having been asked for.
	Unexpected
)

type instancePhase int

const (
	// found: it has not been prepared yet.
	found instancePhase = iota
	// preparing: the preparation runs.
	preparing
	// ready: prepared for tasks.
	ready
	// unfit: the preparation failed.
	unfit
)

// ID is the id of the instance. Another Instance may have had the same.
func (in *Instance) ID() string { return in.id }

// State is the last state seen.
func (in *Instance) State() provider.State { return in.state }

// Restored tells whether the instance is known from before the restart.
func (in *Instance) Restored() bool { return in.restored }

// Ready tells whether the instance was prepared.
func (in *Instance) Ready() bool { return in.phase == ready }

// Used is how many tasks the instance got.
func (in *Instance) Used() int { return in.used }

// IdleSince is when its last task ended, or when it became ready.
func (in *Instance) IdleSince() time.Time { return in.idleSince }

// RunningSince is when it was first seen running.
func (in *Instance) RunningSince() time.Time { return in.runningAt }

// Removal is why the instance was marked for removal; empty if it was not.
func (in *Instance) Removal() string { return in.removal }

// FoundAt is when it was first seen, in whatever state.
func (in *Instance) FoundAt() time.Time { return in.foundAt }

// Failures is the number of health checks that failed since the last good one.
func (in *Instance) Failures() int { return in.failures }

// Gone tells whether the instance exists no more.
func (in *Instance) Gone() bool {
	return in.state == provider.StateDeleted || in.state == provider.StateTimeout
}

// Deleting tells whether the deletion was asked for.
func (in *Instance) Deleting() bool { return in.deleting }

// Lost tells whether the instance was lost to its tasks.
func (in *Instance) Lost() bool { return in.lost }

// Tasks returns the tasks whose owners know of this instance: active, suspended and resuming.
func (in *Instance) Tasks() []*Task {
	var tasks []*Task
	for _, t := range in.slots {
		if t != nil && t.phase != taskChecking {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// held is the number of slots with a task.
func (in *Instance) held() int {
	n := 0
	for _, count := range in.tasks {
		n += count
	}
	return n
}

// suspended is the number of slots with a task that is suspended or about to be resumed.
func (in *Instance) suspended() int { return in.tasks[taskSuspended] + in.tasks[taskResuming] }

// inUse is the number of slots with a task that is active or about to be.
func (in *Instance) inUse() int { return in.tasks[taskActive] + in.tasks[taskChecking] }

// put gives the lowest free slot to a task.
func (in *Instance) put(t *Task, phase taskPhase) {
	slot := 0
	for slot < len(in.slots) && in.slots[slot] != nil {
		slot++
	}
	in.putAt(t, slot, phase)
}

func (in *Instance) putAt(t *Task, slot int, phase taskPhase) {
	for len(in.slots) <= slot {
		in.slots = append(in.slots, nil)
	}
	in.slots[slot] = t
	in.tasks[phase]++
	t.instance, t.slot, t.phase = in, slot, phase
}

// take frees the slot of a task.
func (in *Instance) take(t *Task) {
	in.slots[t.slot] = nil
	in.tasks[t.phase]--
	t.instance = nil
}

// turn changes the phase of a task that stays on its slot.
func (in *Instance) turn(t *Task, phase taskPhase) {
	in.tasks[t.phase]--
	t.phase = phase
	in.tasks[phase]++
}

// free is the number of slots without a task.
func (s *State) free(in *Instance) int {
	n := s.config.CapacityPerInstance
	for slot, t := range in.slots {
		// A restored instance may have slots beyond today's capacity.
		if t != nil && slot < s.config.CapacityPerInstance {
			n--
		}
	}
	return n
}

func (s *State) usesLeft(in *Instance) int {
	if s.config.MaxUseCount == 0 {
		return math.MaxInt
	}
	return max(0, s.config.MaxUseCount-in.used)
}

// usable is the number of tasks that the instance could take beside those it has.
func (s *State) usable(in *Instance) int { return min(s.free(in), s.usesLeft(in)) }

// accepts tells whether a task may be put on the instance now.
func (s *State) accepts(in *Instance) bool {
	return in.state == provider.StateRunning && in.phase == ready && in.failures == 0 &&
		in.removal == "" && !in.deleting && !in.lost && in.disconnected == "" && !in.suspending &&
		s.usable(in) > 0
}
