package taskscaler

import (
	"context"
	"errors"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
	"gitlab.com/gitlab-org/fleeting/taskscaler/metrics"
)

// errInstanceGone ends the life of instances that are not needed any more.
var errInstanceGone = errors.New("the instance is deleted")

// carryOut does what was decided, without waiting for anything, and records it in the state.
func (s *scaler) carryOut(d fleet.Decision, now time.Time) {
	m := s.members[d.Instance]
	var tasks []*fleet.Task
	if d.Kind == fleet.Lose || d.Kind == fleet.Forget {
		tasks = d.Instance.Tasks()
	}
	s.state.Apply(d, now)
	s.history.decided(d, now)

	switch d.Kind {
	case fleet.Lose:
		s.lose(m, d.Reason, tasks)
	case fleet.Forget:
		m.endLife(errInstanceGone)
		delete(s.members, m.in)
		delete(s.known, m.handle)
	case fleet.Mark:
		s.logger.Info("instance marked for removal", "instance", m.id(), "reason", d.Reason)
		s.record(m)
	case fleet.Delete:
		s.logger.Debug("deleting instance", "instance", m.id(), "reason", d.Reason, "used", d.Instance.Used())
		s.options.collector.AddScaleOperations(metrics.ScaleDown, 1)
		m.endLife(errInstanceGone)
		m.handle.Delete()
	case fleet.Prepare:
		s.work.Go(func() { s.prepare(m) })
	case fleet.Check:
		s.work.Go(func() { s.examine(m) })
	case fleet.Sleep:
		s.logger.Info("suspending instance", "instance", m.id(), "reason", d.Reason)
		m.handle.Suspend()
	case fleet.Place:
		s.offer(d.Task, m)
	case fleet.Create:
		s.logger.Info("creating instances", "amount", d.Count, "reason", d.Reason)
		s.options.collector.AddScaleOperations(metrics.ScaleUp, d.Count)
		s.provisioner.Request(d.Count)
		// Should the group refuse at once, the counts would look as if nothing had happened.
		s.capacityKnown = false
	}
	for _, t := range tasks {
		if s.state.Task(t.Key()) == nil {
			delete(s.acquisitions, t.Key())
		}
	}
}

// lose tells the owners of acquisitions that their instance is lost.
func (s *scaler) lose(m *member, reason string, tasks []*fleet.Task) {
	slots := map[int]string{}
	for _, t := range tasks {
		slots[t.Slot()] = t.Key()
	}
	s.logger.Error("instance unexpectedly removed", "instance", m.id(), "max-use-count", s.options.fleet.MaxUseCount,
		"slots", slots, "used", m.in.Used(), "reason", reason)

	cause := m.lossCause(reason)
	m.endLife(cause)
	for _, t := range tasks {
		if t.Active() {
			s.acquisitions[t.Key()].stop(cause)
		}
	}
}

// offer tells the Acquire call of a task that a slot was found. An offer that the call has not taken
// yet is out of date.
func (s *scaler) offer(t *fleet.Task, m *member) {
	offers := s.offers[t.Key()]
	select {
	case <-offers:
	default:
	}
	offers <- offer{on: m, placement: t.Placement()}
}

// prepare makes an instance ready for tasks.
func (s *scaler) prepare(m *member) {
	err := s.makeReady(m)
	s.do(func(now time.Time) {
		took := now.Sub(m.in.RunningSince())
		s.state.Prepared(m.in, err, now)
		s.history.prepared(m.id(), err, now)
		if err != nil {
			s.logger.Error("ready up preparation failed", "err", err, "instance", m.id(), "took", took)
			return
		}
		s.logger.Info("instance is ready", "instance", m.id(), "took", took)
		s.options.collector.ObserveTaskInstanceReadinessTime(took)
		s.record(m)
	})
}

func (s *scaler) makeReady(m *member) error {
	if s.options.up == nil && !s.recorder.active() {
		return nil
	}
	info, err := s.firstConnectInfo(m)
	if err != nil {
		return err
	}
	if s.recorder.active() {
		m.info.Store(&info)
	}
	if s.options.up == nil {
		return nil
	}

	instance := UpFuncInstance{ID: m.id(), Info: info, Cause: m.handle.Cause(), Life: m.life}
	if m.stored != nil {
		instance.Restored = true
		instance.UsedCount = m.stored.UsedCount
		for _, a := range m.stored.Acquisitions {
			if !a.Suspended {
				instance.Acquisitions = append(instance.Acquisitions, a.Key)
			}
		}
	}
	return s.options.up(s, instance)
}

// connectInfoDelays are the pauses between attempts to learn how to connect to a new instance. Many
// instances that start at the same time may exceed what the group's interface answers.
var connectInfoDelays = [...]time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}

func (s *scaler) firstConnectInfo(m *member) (provider.ConnectInfo, error) {
	for _, delay := range connectInfoDelays {
		info, err := m.connectInfo(s.ctx)
		if err == nil {
			return info, nil
		}
		s.logger.Warn("getting connect info failed", "err", err, "instance", m.id(), "retry_in", delay)
		select {
		case <-time.After(delay):
		case <-s.ctx.Done():
			return provider.ConnectInfo{}, context.Cause(s.ctx)
		}
		if state := m.handle.State(); state != provider.StateRunning {
			return provider.ConnectInfo{}, errors.Join(errors.New("instance is "+string(state)), err)
		}
	}
	return m.connectInfo(s.ctx)
}

// examine checks the health of an instance that failed the last check.
func (s *scaler) examine(m *member) {
	err := m.check(s.ctx, s.options.heartbeat)
	if s.ctx.Err() != nil {
		return
	}
	s.do(func(now time.Time) {
		s.noteHealth(m, err)
		s.state.Checked(m.in, err, now)
	})
}

func (s *scaler) noteHealth(m *member, err error) {
	if err != nil {
		s.logger.Warn("instance failed health check", "err", err, "instance", m.id())
	}
}
