package fleet

import (
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Suspend marks an active task as suspended; it keeps its slot. The instance itself follows when no
// active task is left on it.
func (s *State) Suspend(key string) error {
	t := s.tasks[key]
	switch {
	case t == nil || t.phase == taskWaiting || t.phase == taskChecking:
		return ErrTaskUnknown
	case t.phase != taskActive:
		return ErrTaskSuspended
	case t.instance.lost:
		return ErrTaskLost
	}
	t.instance.turn(t, taskSuspended)
	return nil
}

// BeginResume announces that the owner of a suspended task is going to have its instance resumed. It
// must be followed by EndResume. A task whose instance is gone is removed.
func (s *State) BeginResume(key string) (*Instance, error) {
	t := s.tasks[key]
	switch {
	case t == nil || t.phase == taskWaiting || t.phase == taskChecking:
		return nil, ErrTaskUnknown
	case t.phase != taskSuspended:
		return nil, ErrTaskNotSuspended
	case t.instance.Gone() || t.instance.deleting:
		t.instance.take(t)
		delete(s.tasks, key)
		return nil, ErrTaskLost
	}
	t.instance.turn(t, taskResuming)
	return t.instance, nil
}

// EndResume records how the resumption of a task's instance went and in which state the instance is
// now. The task is active if it returns nil; if not it is suspended as before, unless its instance is
// gone: then it is removed.
func (s *State) EndResume(key string, resumed bool, state provider.State, now time.Time) error {
	t := s.tasks[key]
	if t == nil || t.phase != taskResuming {
		return ErrTaskUnknown
	}
	in := t.instance
	s.Observe(in, state, now)

	if in.Gone() || in.deleting {
		in.take(t)
		delete(s.tasks, key)
		return ErrTaskLost
	}
	if resumed && in.state == provider.StateRunning && !in.lost {
		in.suspending = false
		in.nextSuspend = time.Time{}
		in.turn(t, taskActive)
		return nil
	}

	in.turn(t, taskSuspended)
	if in.tasks[taskResuming] == 0 && in.state == provider.StateRunning {
		// Nobody wants it to run any more; the plan has it suspended again.
		in.suspending = false
		in.nextSuspend = time.Time{}
	}
	if in.lost {
		return ErrTaskLost
	}
	return ErrTaskNotResumed
}
