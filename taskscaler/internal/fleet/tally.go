package fleet

import (
	"fmt"
	"math"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Tally counts slots and instances. Idle, Acquired, Unavailable, Unhealthy, Unready and Suspended count
// slots, no slot twice.
type Tally struct {
	// Idle slots can take a task now.
	Idle int
	// Acquired slots have a task that is active or about to be.
	Acquired int
	// Unavailable slots are free and never take a task again.
	Unavailable int
	// Unhealthy slots are free on instances that failed their last health check.
	Unhealthy int
	// Unready slots are free on running instances that are being prepared.
	Unready int
	// Suspended slots have a suspended task.
	Suspended int
	// Pending is the number of tasks waiting for a slot.
	Pending int
	// Reserved is the number of announced tasks.
	Reserved int

	// instances provide capacity or will.
	instances int
	// existing instances take room in the group, in whatever state.
	existing int
	// coming slots are on instances that do not run yet.
	coming int
	// unreachable slots are suspended ones on instances that are not suspended themselves.
	unreachable int
	// trials are instances, asked for by us, of which it is open whether they become ready.
	trials int
}

// Tally counts the present state. Every instance that provides capacity adds exactly
// CapacityPerInstance slots to the classes.
func (s *State) Tally(now time.Time) Tally {
	t := Tally{Pending: len(s.queue), Reserved: len(s.reservations), trials: s.outstanding}
	for _, in := range s.instances {
		s.count(in, &t, now)
	}
	// The provisioner may know instances whose discovery or end we have not been told yet.
	t.existing = max(t.existing+s.outstanding, s.existing)
	t.instances += s.outstanding
	t.coming += s.outstanding * s.config.CapacityPerInstance
	return t
}

func (s *State) count(in *Instance, t *Tally, now time.Time) {
	if !in.Gone() {
		t.existing++
	}
	stopped := in.state == provider.StateSuspending || in.state == provider.StateSuspended
	free := s.free(in)
	usable := min(free, s.usesLeft(in))

	switch {
	case in.deleting:
		return

	case in.Gone(), in.state == provider.StateDeleting, stopped && in.lost:
		// A lost instance counts as full until its tasks are released: work that was placed already
		// must not make room for itself twice.
		if in.inUse() > 0 {
			t.instances++
			t.Acquired += in.inUse()
			t.Unavailable += free
			t.unreachable += in.suspended()
		}
		t.Suspended += in.suspended()
		return

	case stopped, in.suspending:
		t.Suspended += in.suspended()
		return
	}

	t.instances++
	t.Acquired += in.inUse()
	t.Suspended += in.suspended()
	t.unreachable += in.suspended()
	if in.removal != "" || in.lost {
		t.Unavailable += free
		return
	}
	t.Unavailable += free - usable
	switch {
	case in.state != provider.StateRunning:
		t.coming += usable
	case in.phase != ready:
		t.Unready += usable
	case in.failures > 0:
		t.Unhealthy += usable
	default:
		t.Idle += usable
	}
	if in.phase != ready && in.origin != Preexisted && now.Sub(in.foundAt) < trialPatience {
		t.trials++
	}
}

// provided is the number of slots that can take a task now or later.
func (t Tally) provided() int { return t.Idle + t.coming + t.Unready + t.Unhealthy }

// classes lists the counts as a refused reservation shows them.
func (t Tally) classes() string {
	return fmt.Sprintf("(idle:%d,acquired:%d,unavailable:%d,unhealthy:%d,unready:%d)",
		t.Idle, t.Acquired, t.Unavailable, t.Unhealthy, t.Unready)
}

// available is the number of idle slots that nobody announced a task for. It is negative if more
// tasks were announced.
func (t Tally) available() int { return t.Idle - t.Reserved }

// potential is the number of slots that are coming or could be made, without those that waiting tasks
// will take.
func (s *State) potential(t Tally) int {
	room := s.room(t)
	if room > math.MaxInt32 {
		return math.MaxInt32
	}
	return max(0, room*s.config.CapacityPerInstance+t.coming+t.Unready-t.Pending)
}

// room is the number of instances that may still be created.
func (s *State) room(t Tally) int {
	if s.config.MaxInstances == 0 {
		return math.MaxInt
	}
	return max(0, s.config.MaxInstances-t.existing)
}

// Instances is the number of instances that provide capacity or will, those that were asked for included.
func (t Tally) Instances() int { return t.instances }

// Slots is the number of slots that can take a task now or later, and of those that have one.
func (t Tally) Slots() int { return t.provided() + t.Acquired }

// Capacity returns the number of slots that are available now and of those that could be.
func (s *State) Capacity(now time.Time) (available, potential int) {
	t := s.Tally(now)
	return t.available(), s.potential(t)
}

// CapacityInfo returns what the number of instances is computed from.
func (s *State) capacityInfo(t Tally) CapacityInfo {
	return CapacityInfo{
		InstanceCount:       t.instances,
		MaxInstanceCount:    s.config.MaxInstances,
		Acquired:            t.Acquired,
		UnavailableCapacity: t.Unavailable,
		Pending:             t.Pending,
		Reserved:            t.Reserved,
		IdleCount:           s.policy.IdleCount,
		ScaleFactor:         s.policy.ScaleFactor,
		ScaleFactorLimit:    s.policy.ScaleFactorLimit,
		CapacityPerInstance: s.config.CapacityPerInstance,
		suspended:           t.unreachable,
	}
}
