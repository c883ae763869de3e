package fleet

import (
	"errors"
	"slices"
	"time"
)

// Refusal is why a reservation was refused.
type Refusal int

// The refusals of reservations.
const (
	// RefusedPotential: there is neither a free slot nor room for another instance.
	RefusedPotential Refusal = iota
	// RefusedAvailable: there is no free slot now, and the policy wants one.
	RefusedAvailable
	// RefusedThrottled: the reservation would keep the last idle instance from being removed.
	RefusedThrottled
)

// RefusalError is returned by Reserve.
type RefusalError struct {
	Refusal Refusal
	Tally   Tally
}

func (e *RefusalError) Error() string {
	switch e.Refusal {
	case RefusedPotential:
		return "no immediately available nor potential capacity " + e.Tally.classes()
	case RefusedAvailable:
		return "no immediately available capacity " + e.Tally.classes()
	default:
		return "reservations leave one idle instance free " + e.Tally.classes()
	}
}

var (
	// ErrTaskExists: a task with the same key waits or holds a slot.
	ErrTaskExists = errors.New("a task with this key waits or holds a slot already")
	// ErrTaskUnknown: no task with this key holds a slot.
	ErrTaskUnknown = errors.New("no task with this key holds a slot")
	// ErrTaskSuspended: the task is suspended.
	ErrTaskSuspended = errors.New("the task is suspended already")
	// ErrTaskNotSuspended: the task is not suspended, or is being resumed.
	ErrTaskNotSuspended = errors.New("the task is not suspended or is being resumed already")
	// ErrTaskNotResumed: the instance of the task was not brought back to running.
	ErrTaskNotResumed = errors.New("the instance of the task does not run")
	// ErrTaskLost: the instance of the task is lost.
	ErrTaskLost = errors.New("the instance of the task is lost")
)

// Reserve announces a task. The error is nil or a *RefusalError.
func (s *State) Reserve(key string, now time.Time) error {
	if _, ok := s.reservations[key]; ok {
		return nil
	}
	t := s.Tally(now)
	available := t.available()
	switch {
	case available+s.potential(t) <= 0:
		return &RefusalError{RefusedPotential, t}
	case s.policy.Preemptive && available <= 0:
		return &RefusalError{RefusedAvailable, t}
	case s.config.ReservationThrottling && t.Idle > 0 &&
		t.Reserved >= max(1, t.Idle-s.config.CapacityPerInstance):
		return &RefusalError{RefusedThrottled, t}
	}
	if s.config.Reservations {
		s.reservations[key] = struct{}{}
	}
	return nil
}

// Unreserve withdraws an announcement and tells whether there was one.
func (s *State) Unreserve(key string) bool {
	_, ok := s.reservations[key]
	delete(s.reservations, key)
	return ok
}

// Enqueue lets a task wait for a slot. Its reservation ends.
func (s *State) Enqueue(key string) error {
	if s.tasks[key] != nil {
		return ErrTaskExists
	}
	s.Unreserve(key)
	t := &Task{key: key}
	s.tasks[key] = t
	s.queue = append(s.queue, t)
	return nil
}

// Abandon withdraws a task that nobody works on yet and tells whether there was one. What it counted
// for as a use is undone.
func (s *State) Abandon(key string) bool {
	t := s.tasks[key]
	if t == nil {
		return false
	}
	switch t.phase {
	case taskWaiting:
		s.dequeue(t)
	case taskChecking:
		t.instance.used--
		t.instance.take(t)
	default:
		return false
	}
	delete(s.tasks, key)
	return true
}

// Confirm hands a placed task to its owner, the instance having proved healthy. It returns false if
// the task was taken off that placement meanwhile; then it waits again.
func (s *State) Confirm(key string, placement int) bool {
	t := s.tasks[key]
	if t == nil || t.phase != taskChecking || t.placements != placement {
		return false
	}
	t.instance.turn(t, taskActive)
	t.instance.failures = 0
	return true
}

// Reject takes a placed task off its instance, which failed the health check, and makes it the first
// to be placed again.
func (s *State) Reject(key string, placement int, err error, now time.Time) {
	t := s.tasks[key]
	if t == nil || t.phase != taskChecking || t.placements != placement {
		return
	}
	s.examine(t.instance, err, now)
	s.requeue(t)
}

// requeue takes a task that its owner does not know of off its instance.
func (s *State) requeue(t *Task) {
	t.instance.used--
	t.instance.take(t)
	t.phase = taskWaiting
	s.queue = slices.Insert(s.queue, 0, t)
}

func (s *State) dequeue(t *Task) {
	if s.queue[0] == t {
		s.queue = s.queue[1:]
		return
	}
	if i := slices.Index(s.queue, t); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	}
}

// Release ends a task whose owner knows of its slot, and tells whether there was one.
func (s *State) Release(key string, now time.Time) bool {
	t := s.tasks[key]
	if t == nil || t.phase == taskWaiting || t.phase == taskChecking {
		return false
	}
	t.instance.idleSince = now
	t.instance.take(t)
	delete(s.tasks, key)
	return true
}
