package pool

import (
	"slices"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Decreased takes the result of asking the group for deletions: the ids that were asked for and those
// of them that were accepted. It returns the instances whose state changed.
func (p *Pool) Decreased(now time.Time, asked, succeeded []string) []*Instance {
	accepted := set(succeeded)
	var changed []*Instance
	for _, id := range asked {
		in := p.byID[id]
		if in == nil || !in.deletion.wanted {
			continue
		}
		in.deletion.sent = now
		if !accepted[id] {
			in.deletion.attempts++
			continue
		}
		in.deletion.accepted, in.deletion.attempts = true, 0
		if in.State != provider.StateDeleting {
			in.enter(now, provider.StateDeleting)
			changed = append(changed, in)
		}
	}
	return changed
}

// Suspended takes the result of asking the group for suspensions. It returns the instances that were
// accepted, and those that were refused and stay running.
func (p *Pool) Suspended(now time.Time, asked, succeeded []string) (accepted, refused []*Instance) {
	return p.moved(now, asked, succeeded, provider.StateSuspending)
}

// Resumed takes the result of asking the group for resumptions. It returns the instances that were
// accepted, and those that were refused and stay suspended.
func (p *Pool) Resumed(now time.Time, asked, succeeded []string) (accepted, refused []*Instance) {
	accepted, refused = p.moved(now, asked, succeeded, provider.StateResuming)
	for _, in := range refused {
		in.suspend.resume = false
	}
	return accepted, refused
}

func (p *Pool) moved(now time.Time, asked, succeeded []string, to provider.State) (accepted, refused []*Instance) {
	ok := set(succeeded)
	for _, id := range asked {
		in := p.byID[id]
		if in == nil {
			continue
		}
		in.suspend.wanted = false
		if !ok[id] {
			refused = append(refused, in)
			continue
		}
		in.suspend.acknowledged, in.suspend.since = false, p.updates
		in.enter(now, to)
		accepted = append(accepted, in)
	}
	return accepted, refused
}

// Overdue returns the instances whose resumption has waited too long for a suspension to end, and
// forgets that they were to be resumed.
func (p *Pool) Overdue(now time.Time) []*Instance {
	overdue := slices.DeleteFunc(slices.Clone(p.instances), func(in *Instance) bool {
		s := in.suspend
		return !s.resume || in.State != provider.StateSuspending || now.Sub(s.resumeWanted) < suspendWaitLimit
	})
	for _, in := range overdue {
		in.suspend.resume = false
	}
	return overdue
}

func set(ids []string) map[string]bool {
	m := make(map[string]bool, len(ids))
	for _, id := range ids {
		m[id] = true
	}
	return m
}
