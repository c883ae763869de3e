package taskscaler

import (
	"context"
	"sync"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler/storage"
)

// inbox collects the instances that the provisioner says have changed. It never blocks the sender.
type inbox struct {
	mu      sync.Mutex
	changed []fleeting.Instance
	wake    chan struct{}
}

func (i *inbox) put(instances []fleeting.Instance) {
	i.mu.Lock()
	i.changed = append(i.changed, instances...)
	i.mu.Unlock()
	select {
	case i.wake <- struct{}{}:
	default:
	}
}

func (i *inbox) take() []fleeting.Instance {
	i.mu.Lock()
	defer i.mu.Unlock()
	changed := i.changed
	i.changed = nil
	return changed
}

// observe takes in what the provisioner knows.
func (s *scaler) observe(now time.Time) {
	for _, handle := range s.inbox.take() {
		s.observeInstance(handle, now)
	}
	// The counts have to be read before the instances: an instance that is discovered in between is
	// then counted twice and not missed.
	capacity := s.provisioner.Capacity()
	if s.capacityKnown && capacity == s.capacity {
		return
	}
	s.capacity, s.capacityKnown = capacity, true
	instances := s.provisioner.Instances()
	for _, handle := range instances {
		s.observeInstance(handle, now)
	}
	outstanding := capacity.Requested + capacity.Pending
	s.state.SetProvisioned(outstanding, outstanding+len(instances), now)
}

func (s *scaler) observeInstance(handle fleeting.Instance, now time.Time) {
	state := handle.State()
	m, ok := s.known[handle]
	if ok {
		before := m.in.Gone()
		s.state.Observe(m.in, state, now)
		if m.in.Gone() && !before {
			s.removeRecord(m)
		}
		return
	}
	if state == provider.StateDeleted || state == provider.StateTimeout {
		return
	}

	m = &member{handle: handle, stored: s.recall(handle)}
	m.life, m.endLife = context.WithCancelCause(s.ctx)
	m.in = s.state.Discover(handle.ID(), originOf(handle.Cause()), state, memoryOf(m.stored), now)
	s.known[handle] = m
	s.members[m.in] = m
	for _, t := range m.in.Tasks() {
		a := newAcquisition(t.Key(), t.Slot(), m)
		if t.Suspended() {
			a.stop(ErrAcquisitionSuspended)
		}
		s.acquisitions[t.Key()] = a
	}
}

// recall returns what is stored about an instance that was there before the scaler started. All of
// those are discovered at once: when another one appears, the remaining states belong to nobody.
func (s *scaler) recall(handle fleeting.Instance) *storage.State {
	if handle.Cause() != fleeting.CausePreexisted {
		for id := range s.memories {
			s.logger.Info("dropping stored state, the instance is gone", "instance", id)
			s.recorder.remove(id)
		}
		clear(s.memories)
		return nil
	}
	memory := s.memories[handle.ID()]
	delete(s.memories, handle.ID())
	return memory
}

// record has the present state of an instance stored. The channel is closed when that was tried.
func (s *scaler) record(m *member) <-chan struct{} {
	if !s.recorder.active() || m.in.Gone() || !m.in.Ready() && m.stored == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return s.recorder.put(m.state())
}

// removeRecord has the state of an instance that is gone deleted.
func (s *scaler) removeRecord(m *member) {
	s.recorder.remove(m.id())
	for _, other := range s.members {
		if other != m && other.id() == m.id() {
			s.record(other)
		}
	}
}
