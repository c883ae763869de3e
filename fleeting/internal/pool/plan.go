package pool

import (
	"fmt"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Decision is one thing to be done to one instance.
type Decision struct {
	ID     string
	Reason string
}

// Plan is what is to be done now.
type Plan struct {
	// Decrease are batches of instances to be deleted, each to be sent as one call.
	Decrease [][]Decision
	// Increase is the number of instances to ask for.
	Increase int
	// IncreaseReason is why that many, where Increase or Held is not zero.
	IncreaseReason string
	// Held is the number of requested instances for which there is no room.
	Held int
	// Suspend and Resume are the instances to be suspended and resumed.
	Suspend, Resume []Decision
}

// Empty tells whether there is nothing to do.
func (p Plan) Empty() bool {
	return len(p.Decrease) == 0 && p.Increase == 0 && len(p.Suspend) == 0 && len(p.Resume) == 0
}

// Plan says what is to be done.
func (p *Pool) Plan(now time.Time) Plan {
	plan := Plan{Decrease: p.planDecrease(now)}
	p.planIncrease(&plan)
	for _, in := range p.instances {
		switch {
		case in.deletion.wanted:
		case in.suspend.wanted && in.State == provider.StateRunning:
			plan.Suspend = append(plan.Suspend, Decision{in.ID, "suspension was asked for"})
		case in.suspend.resume && in.State == provider.StateSuspended:
			plan.Resume = append(plan.Resume, Decision{in.ID, "resumption was asked for"})
		}
	}
	return plan
}

// planDecrease puts all due deletions in one batch, but for those that were refused before: because a
// plugin may let one failure spoil the whole call, these are tried in calls of their own. One at a
// time is, as long as there is time.
func (p *Pool) planDecrease(now time.Time) [][]Decision {
	var batches [][]Decision
	var together []Decision
	var alone *Instance
	for _, in := range p.instances {
		d := in.deletion
		reason, due := p.deletionDue(now, in)
		switch {
		case !due:
		case d.shutdown && d.attempts > 0:
			batches = append(batches, []Decision{{in.ID, reason}})
		case d.attempts < 2:
			together = append(together, Decision{in.ID, reason})
		case alone == nil || d.sent.Before(alone.deletion.sent):
			alone = in
		}
	}
	if len(together) > 0 {
		batches = append(batches, together)
	}
	if alone != nil {
		reason, _ := p.deletionDue(now, alone)
		batches = append(batches, []Decision{{alone.ID, reason}})
	}
	return batches
}

// deletionDue tells whether the group is to be asked to delete an instance now, and why.
func (p *Pool) deletionDue(now time.Time, in *Instance) (reason string, due bool) {
	d := in.deletion
	switch {
	case !d.wanted || in.reported == provider.StateDeleting:
		return "", false
	case d.accepted:
		return "the deletion had no effect", now.Sub(d.sent) >= p.cfg.DeletionRetry
	case d.attempts > 0:
		wait := p.cfg.DeletionRetry
		if doublings := d.attempts - 1; doublings < 16 {
			wait = min(wait, p.cfg.RetryStep<<doublings)
		}
		return "the deletion was refused before", now.Sub(d.sent) >= wait
	case d.shutdown:
		return "shutdown", true
	default:
		return "deletion was asked for", true
	}
}

func (p *Pool) planIncrease(plan *Plan) {
	c := p.Counts()
	if c.Requested == 0 {
		return
	}
	plan.Increase = min(c.Requested, c.Room())
	plan.Held = c.Requested - plan.Increase
	plan.IncreaseReason = fmt.Sprintf("%d requested, %d of %d places taken", c.Requested, c.Total(), c.Max)
}
