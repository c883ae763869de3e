package fleeting

import (
	"context"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const (
	// callGrace is how long a call under way may go on when Shutdown is called. Its result is worth
	// waiting for: the answer to an increase cut short would be lost.
	callGrace = 10 * time.Second
	// lastCallLimit bounds the group's own shutdown when the context of Shutdown has ended.
	lastCallLimit = 5 * time.Second
)

// ending is what Shutdown hands to the loop.
type ending struct {
	ctx     context.Context
	release func() // stops the timers that would cut calls short
}

// finish ends the loop.
func (l *loop) finish(ctx context.Context) {
	if l.p.opts.deleteOnShutdown {
		l.deleteAll(ctx)
	}
	if ctx.Err() != nil {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCallLimit)
		defer cancel()
		ctx = late
	}
	if err := l.p.group.Shutdown(ctx); err != nil {
		l.p.log.Error("shutting down instance group failed", "group", l.p.info.ID, "error", err)
	}
	for _, handle := range l.handles {
		handle.orphan()
	}
}

// deleteAll deletes all instances but the suspended ones, in a limited number of attempts.
func (l *loop) deleteAll(ctx context.Context) {
	opts := l.p.opts
	l.takeOver()
	for attempt := 1; ; attempt++ {
		l.reconcile(ctx)
		l.pool.DeleteAll(time.Now())
		l.removal(ctx, l.pool.Plan(time.Now()).Decrease)
		l.publish()
		l.notify()
		if l.waitForDeletion(ctx, opts.shutdownDeletionInterval) {
			return
		}
		if attempt >= opts.shutdownDeletionRetries || ctx.Err() != nil {
			break
		}
	}
	var left []string
	for _, in := range l.pool.Instances() {
		if in.DeletionWanted() {
			left = append(left, in.ID)
		}
	}
	l.p.log.Error("instances are left over at shutdown", "amount", len(left), "group", l.p.info.ID, "ids", left)
}

// waitForDeletion gives deletions time to take effect and tells whether all of them did.
func (l *loop) waitForDeletion(ctx context.Context, limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for {
		if !l.deleting() {
			return true
		}
		rest := time.Until(deadline)
		if rest <= 0 {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(min(rest, l.p.opts.updateIntervalWhenExpecting)):
		}
		l.reconcile(ctx)
		l.publish()
		l.notify()
	}
}

// deleting tells whether an instance is left that is to be deleted, or about to appear.
func (l *loop) deleting() bool {
	if c := l.pool.Counts(); c.Pending+c.Unanswered > 0 {
		return true
	}
	for _, in := range l.pool.Instances() {
		if in.DeletionWanted() || in.State == provider.StateDeleting {
			return true
		}
	}
	return false
}
