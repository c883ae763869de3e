package fleeting

import (
	"slices"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/pool"
	"gitlab.com/gitlab-org/fleeting/fleeting/metrics"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// observed records what an update has changed.
func (l *loop) observed(now time.Time, o pool.Observation) {
	log, group, collector := l.p.log, l.p.info.ID, l.p.opts.collector
	for _, in := range o.Discovered {
		handle := newInstance(l.p, in)
		l.handles[in.ID] = handle
		l.stale = true
		log.Info("instance discovery", "cause", handle.cause, "group", group, "id", in.ID, "state", in.State)
		if in.Cause == pool.Requested {
			collector.ObserveInstanceCreationTime(now.Sub(in.RequestedAt))
			observeRunning(collector, in)
		}
	}
	for _, in := range o.Changed {
		log.Debug("instance changed", "group", group, "id", in.ID, "state", in.State)
		if in.Cause == pool.Requested && in.ProvisionedAt.Equal(now) {
			observeRunning(collector, in)
		}
	}
	l.touch(o.Discovered)
	l.touch(o.Changed)
	l.touch(o.Gone)
	for _, in := range o.Gone {
		delete(l.handles, in.ID)
		l.stale = true
		log.Info("instance gone", "group", group, "id", in.ID, "state", in.State, "reason", goneReason(in))
		collector.ObserveInstanceLifeDuration(now.Sub(in.RequestedAt))
		if in.DeletionWanted() {
			collector.ObserveInstanceDeletionTime(now.Sub(in.DeletedAt))
		}
	}
	if len(o.Gone) > 0 {
		collector.AddInternalOperations(metrics.InternalPrune, 1)
	}
	if o.Missed > 0 {
		collector.AddMissedUpdates(o.Missed)
		log.Debug("instances are missing from the update", "amount", o.Missed, "group", group)
	}
	if o.Expired > 0 {
		log.Warn("requested instances never appeared and are given up", "amount", o.Expired, "group", group, "after", pool.PendingLimit.String())
	}
	for _, r := range o.Invalid {
		log.Warn("the plugin reports an instance without an id or in an unknown state", "group", group, "id", r.ID, "state", r.State)
	}
}

func observeRunning(collector metrics.Collector, in *pool.Instance) {
	if !in.ProvisionedAt.IsZero() {
		collector.ObserveInstanceIsRunningTime(in.ProvisionedAt.Sub(in.RequestedAt))
	}
}

func goneReason(in *pool.Instance) string {
	switch {
	case in.DeletionWanted():
		return "deletion was asked for"
	case in.Missed() >= pool.MissedUpdates:
		return "missing from too many updates"
	default:
		return "it went by itself"
	}
}

// touch brings the handles of instances up to date and has the subscribers told of them.
func (l *loop) touch(instances []*pool.Instance) {
	for _, in := range instances {
		handle := l.handles[in.ID]
		handle.sync(in)
		if !handle.queued {
			handle.queued = true
			l.changed = append(l.changed, handle)
		}
	}
}

// notify tells the subscribers what has changed since the last time.
func (l *loop) notify() {
	if len(l.changed) == 0 {
		return
	}
	l.p.opts.collector.AddInternalOperations(metrics.InternalNotify, 1)
	changed := l.changed
	l.changed = nil
	for _, handle := range changed {
		handle.queued = false
	}
	for _, subscriber := range l.p.opts.subscribers {
		instances := make([]Instance, len(changed))
		for i, handle := range changed {
			instances[i] = handle
		}
		subscriber(instances)
	}
}

// publish shows the state to callers and to the collector.
func (l *loop) publish() {
	if l.stale {
		l.stale = false
		l.views = make([]Instance, 0, len(l.handles))
		for _, in := range l.pool.Instances() {
			l.views = append(l.views, l.handles[in.ID])
		}
	}
	counts := l.pool.Counts()
	l.p.publish(newCapacity(counts), l.views)

	collector := l.p.opts.collector
	collector.SetInstances(metrics.StateRequested, counts.Requested)
	collector.SetInstances(metrics.StatePending, counts.Pending)
	collector.SetInstances(string(provider.StateCreating), counts.Creating)
	collector.SetInstances(string(provider.StateRunning), counts.Running)
	collector.SetInstances(string(provider.StateDeleting), counts.Deleting)
	collector.SetInstances(string(provider.StateSuspending), counts.Suspending)
	collector.SetInstances(string(provider.StateSuspended), counts.Suspended)
	collector.SetInstances(string(provider.StateResuming), counts.Resuming)
}

// answerWaiters answers the calls of Resume that are decided.
func (l *loop) answerWaiters() {
	l.waiters = slices.DeleteFunc(l.waiters, func(w resumeWaiter) bool {
		in := l.pool.Get(w.instance.id)
		switch {
		case in == nil || l.handles[in.ID] != w.instance || in.DeletionWanted() || in.State == provider.StateDeleting:
			w.reply <- errGone
		case in.State == provider.StateRunning:
			w.reply <- nil
		case in.ResumeWanted():
			return false
		default:
			w.reply <- errResumeFailed
		}
		return true
	})
}

// failWaiters answers the calls of Resume for one instance with an error.
func (l *loop) failWaiters(id string, err error) {
	l.waiters = slices.DeleteFunc(l.waiters, func(w resumeWaiter) bool {
		if w.instance.id != id {
			return false
		}
		w.reply <- err
		return true
	})
}
