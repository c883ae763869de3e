package fleeting

import (
	"context"
	"errors"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/pool"
	"gitlab.com/gitlab-org/fleeting/fleeting/internal/wire"
	"gitlab.com/gitlab-org/fleeting/fleeting/metrics"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// maxWakeGap bounds how long a cycle that was woken up may be put off, so that many small wishes make
// few calls.
const maxWakeGap = 500 * time.Millisecond

// loop is the goroutine of a Provisioner and everything it owns. Each cycle takes stock of the group,
// asks the pool for a plan, carries it out and tells the subscribers.
type loop struct {
	p       *Provisioner
	pool    *pool.Pool
	handles map[string]*instance
	views   []Instance // of the handles; replaced, never changed
	stale   bool       // views are not those of the pool

	failures  int // consecutive updates that failed
	held      int // requested instances without room, as last logged
	lastWoken time.Time
	changed   []*instance // what the subscribers do not know yet, each once
	waiters   []resumeWaiter
}

// resumeWaiter is a call of Resume.
type resumeWaiter struct {
	instance *instance
	reply    chan<- error
}

// start takes stock for the first time and starts the goroutine.
func (l *loop) start(ctx context.Context) {
	l.reconcile(ctx)
	l.publish()
	calls, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	l.p.cancelCalls = cancel
	go l.run(calls)
}

// run is the goroutine; calls is the context of calls to the group until Shutdown.
func (l *loop) run(calls context.Context) {
	defer close(l.p.ended)
	l.notify()
	for {
		if end, ok := l.pause(); ok {
			end.release()
			l.p.cancelCalls(errEnded)
			l.finish(end.ctx)
			return
		}
		l.cycle(calls)
	}
}

// pause waits for the time of the next cycle, or until Shutdown is called.
func (l *loop) pause() (end ending, ok bool) {
	timer := time.NewTimer(l.interval())
	defer timer.Stop()
	wake := l.p.wake
	if l.failures > 0 {
		wake = nil // there is nothing to do without a trustworthy update
	}
	select {
	case end = <-l.p.ending:
		return end, true
	case <-timer.C:
		return ending{}, false
	case <-wake:
	}

	gap := min(maxWakeGap, l.p.opts.updateIntervalWhenExpecting/4)
	if wait := gap - time.Since(l.lastWoken); wait > 0 {
		select {
		case end = <-l.p.ending:
			return end, true
		case <-time.After(wait):
		}
	}
	l.lastWoken = time.Now()
	return ending{}, false
}

// interval is the time to the next cycle if nothing happens.
func (l *loop) interval() time.Duration {
	slow, fast := l.p.opts.updateInterval, l.p.opts.updateIntervalWhenExpecting
	switch {
	case l.failures > 0:
		return min(fast<<min(l.failures-1, 16), max(slow, fast))
	case l.pool.Expecting():
		return fast
	default:
		return slow
	}
}

// cycle is one round of the loop.
func (l *loop) cycle(ctx context.Context) {
	l.takeOver()
	if l.reconcile(ctx) {
		plan := l.pool.Plan(time.Now())
		l.removal(ctx, plan.Decrease)
		l.provision(ctx, plan)
		l.suspend(ctx, plan.Suspend)
		l.resume(ctx, plan.Resume)
	}
	l.answerWaiters()
	l.publish()
	l.notify()
}

// takeOver passes on what was asked for since the last cycle.
func (l *loop) takeOver() {
	now := time.Now()
	requests, commands := l.p.receive()
	l.pool.Request(now, requests)
	for _, c := range commands {
		// An id may have come back as another instance.
		current := l.handles[c.instance.id] == c.instance
		switch c.kind {
		case commandDelete:
			if current {
				l.pool.Delete(now, c.instance.id)
			}
		case commandSuspend:
			if current {
				l.pool.Suspend(c.instance.id)
			}
		case commandResume:
			if current {
				l.pool.Resume(now, c.instance.id)
			}
			l.waiters = append(l.waiters, resumeWaiter{c.instance, c.reply})
		}
	}
}

// reconcile takes stock of the group. It returns false, with nothing changed, if that fails.
func (l *loop) reconcile(ctx context.Context) bool {
	l.p.opts.collector.AddInternalOperations(metrics.InternalReconcile, 1)
	var reports []pool.Report
	err := l.p.group.Update(ctx, func(id string, state provider.State) {
		reports = append(reports, pool.Report{ID: id, State: state})
	})
	if err != nil {
		l.failures++
		l.p.log.Error("updating instances failed", "group", l.p.info.ID, "error", err, "retry_in", l.interval().String())
		return false
	}
	if l.failures > 0 {
		l.p.log.Info("updating instances works again", "group", l.p.info.ID, "failures", l.failures)
		l.failures = 0
	}

	now := time.Now()
	l.observed(now, l.pool.Observe(now, reports))
	for _, in := range l.pool.Overdue(now) {
		l.failWaiters(in.ID, errSuspendStuck)
	}
	return true
}

// removal carries out the planned deletions.
func (l *loop) removal(ctx context.Context, batches [][]pool.Decision) {
	for _, batch := range batches {
		l.p.opts.collector.AddInternalOperations(metrics.InternalRemoval, 1)
		ids := idsOf(batch)
		l.p.log.Info("decreasing instances", "amount", len(ids), "group", l.p.info.ID, "ids", ids, "reason", reasonsOf(batch))
		succeeded, err := l.p.group.Decrease(ctx, ids)
		if err != nil {
			l.p.log.Error("decreasing instances failed", "group", l.p.info.ID, "error", err,
				"num_requested", len(ids), "num_successful", len(succeeded))
		}
		l.p.opts.collector.AddInstanceOperations(metrics.OperationDelete, len(succeeded))
		l.touch(l.pool.Decreased(time.Now(), ids, succeeded))
	}
}

// provision carries out the planned increase.
func (l *loop) provision(ctx context.Context, plan pool.Plan) {
	if plan.Held != l.held {
		l.held = plan.Held
		if plan.Held > 0 {
			l.p.log.Info("instances are held back", "amount", plan.Held, "group", l.p.info.ID, "reason", plan.IncreaseReason)
		}
	}
	n := plan.Increase
	if n == 0 {
		return
	}
	log, group := l.p.log, l.p.info.ID
	l.p.opts.collector.AddInternalOperations(metrics.InternalProvision, 1)
	log.Info("increasing instances", "amount", n, "group", group)
	log.Debug("increase decision", "amount", n, "group", group, "reason", plan.IncreaseReason)
	succeeded, err := l.p.group.Increase(ctx, n)
	if err != nil {
		log.Error("increasing instances failed", "group", group, "error", err)
	}
	succeeded = l.pool.Increased(time.Now(), n, succeeded, lostAnswer(err))
	log.Info("increasing instances response", "group", group, "num_requested", n, "num_successful", succeeded)
	l.p.opts.collector.AddInstanceOperations(metrics.OperationCreate, succeeded)
	counts := l.pool.Counts()
	log.Info("increase update", "group", group, "pending", succeeded, "requesting", counts.Requested, "total_pending", counts.Pending)
	l.publish()
}

// lostAnswer tells whether the group may have done what a failed call asked for.
func lostAnswer(err error) bool {
	return errors.Is(err, wire.ErrNoAnswer) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// suspend carries out the planned suspensions.
func (l *loop) suspend(ctx context.Context, decisions []pool.Decision) {
	if len(decisions) == 0 {
		return
	}
	l.p.opts.collector.AddInternalOperations(metrics.InternalSuspend, 1)
	ids := idsOf(decisions)
	l.p.log.Info("suspending instances", "amount", len(ids), "group", l.p.info.ID, "ids", ids)
	succeeded, err := l.p.group.Suspend(ctx, ids)
	if err != nil {
		l.p.log.Error("suspending instances failed", "group", l.p.info.ID, "error", err)
	}
	accepted, refused := l.pool.Suspended(time.Now(), ids, succeeded)
	l.p.opts.collector.AddInstanceOperations(metrics.OperationSuspend, len(accepted))
	l.touch(accepted)
	// They were meant to change: that they do not is news as well.
	l.touch(refused)
}

// resume carries out the planned resumptions.
func (l *loop) resume(ctx context.Context, decisions []pool.Decision) {
	if len(decisions) == 0 {
		return
	}
	l.p.opts.collector.AddInternalOperations(metrics.InternalResume, 1)
	ids := idsOf(decisions)
	l.p.log.Info("resuming instances", "amount", len(ids), "group", l.p.info.ID, "ids", ids)
	succeeded, err := l.p.group.Resume(ctx, ids)
	if err != nil {
		l.p.log.Error("resuming instances failed", "group", l.p.info.ID, "error", err)
	}
	accepted, refused := l.pool.Resumed(time.Now(), ids, succeeded)
	l.p.opts.collector.AddInstanceOperations(metrics.OperationResume, len(accepted))
	l.touch(accepted)
	for _, in := range refused {
		l.failWaiters(in.ID, errors.Join(errResumeRefused, err))
	}
}

func idsOf(decisions []pool.Decision) []string {
	ids := make([]string, len(decisions))
	for i, d := range decisions {
		ids[i] = d.ID
	}
	return ids
}

// reasonsOf returns the different reasons of decisions.
func reasonsOf(decisions []pool.Decision) string {
	text, last := "", ""
	for _, d := range decisions {
		if d.Reason == last {
			continue
		}
		if last = d.Reason; text != "" {
			text += "; "
		}
		text += d.Reason
	}
	return text
}
