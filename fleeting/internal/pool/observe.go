package pool

import (
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Report is what an update says about one instance.
type Report struct {
	ID    string
	State provider.State
}

// Observation is what an update has changed.
type Observation struct {
	// Discovered, Changed and Gone are the instances that are new, that are in another state, and
	// whose life has ended. An instance is in at most one of them.
	Discovered, Changed, Gone []*Instance
	// Missed is the number of instances which the update should have mentioned.
	Missed int
	// Expired is the number of accepted requests given up because nothing was seen of them.
	Expired int
	// Invalid are reports without an id or in a state that does not exist, each told once.
	Invalid []Report
}

// Observe takes a successful update. The last of several reports of one id counts.
func (p *Pool) Observe(now time.Time, reports []Report) Observation {
	var o Observation
	first := p.updates == 0
	p.updates++

	seen := make(map[string]provider.State, len(reports))
	var fresh []string
	for _, r := range reports {
		if r.ID == "" {
			o.Invalid = append(o.Invalid, r)
			continue
		}
		if _, again := seen[r.ID]; !again && p.byID[r.ID] == nil {
			fresh = append(fresh, r.ID)
		}
		seen[r.ID] = r.State
	}

	kept := p.instances[:0]
	for _, in := range p.instances {
		state, mentioned := seen[in.ID]
		if mentioned && !known(state) && state != in.reported {
			o.Invalid = append(o.Invalid, Report{in.ID, state})
		}
		switch p.update(now, in, state, mentioned, &o); {
		case in.Gone():
			delete(p.byID, in.ID)
			o.Gone = append(o.Gone, in)
		default:
			kept = append(kept, in)
		}
	}
	clear(p.instances[len(kept):])
	p.instances = kept

	for _, id := range fresh {
		if in := p.discover(now, id, seen[id], first, &o); in != nil {
			o.Discovered = append(o.Discovered, in)
		}
	}
	o.Expired = p.expire(now)
	return o
}

// known tells whether a state exists.
func known(s provider.State) bool {
	switch s {
	case provider.StateCreating, provider.StateRunning, provider.StateDeleting, provider.StateDeleted,
		provider.StateTimeout, provider.StateSuspending, provider.StateSuspended, provider.StateResuming:
		return true
	}
	return false
}

// update brings one instance up to date.
func (p *Pool) update(now time.Time, in *Instance, reported provider.State, mentioned bool, o *Observation) {
	next := in.State
	switch {
	case mentioned:
		in.missed = 0
		in.reported = reported
		if known(reported) {
			next = p.next(in, reported)
		}
	case in.State == provider.StateDeleting:
		next = provider.StateDeleted
	default:
		o.Missed++
		if in.missed++; in.missed >= MissedUpdates {
			next = provider.StateTimeout
		}
	}
	if next == in.State {
		return
	}
	in.enter(now, next)
	if !final(next) {
		o.Changed = append(o.Changed, in)
	}
}

// next is the state of an instance after a report. What the group accepted wins over a late report of
// the state before.
func (p *Pool) next(in *Instance, reported provider.State) provider.State {
	if final(reported) {
		return reported
	}
	switch in.State {
	case provider.StateDeleting:
		if in.deletion.accepted {
			return provider.StateDeleting
		}
	case provider.StateSuspending:
		return p.settle(in, reported, provider.StateRunning)
	case provider.StateResuming:
		return p.settle(in, reported, provider.StateSuspended)
	}
	return reported
}

// settle tells a late report of the state before a suspension or resumption from its failure.
func (p *Pool) settle(in *Instance, reported, before provider.State) provider.State {
	if reported != before {
		in.suspend.acknowledged = true
		return reported
	}
	if in.suspend.acknowledged || p.updates-in.suspend.since > settleUpdates {
		return reported
	}
	return in.State
}

// enter puts an instance in a state.
func (in *Instance) enter(now time.Time, s provider.State) {
	if in.State == provider.StateResuming && s == provider.StateSuspended {
		in.suspend.resume = false // it failed
	}
	in.State = s
	in.UpdatedAt = now
	switch {
	case s == provider.StateRunning:
		if in.ProvisionedAt.IsZero() {
			in.ProvisionedAt = now
		}
		in.suspend.resume = false
	case s == provider.StateDeleting || final(s):
		if final(s) && in.DeletedAt.IsZero() {
			in.DeletedAt = now
		}
		in.suspend.wanted, in.suspend.resume = false, false
	default:
		in.suspend.wanted = false
	}
}

// discover begins to track an instance, unless it is gone already.
func (p *Pool) discover(now time.Time, id string, reported provider.State, first bool, o *Observation) *Instance {
	state := reported
	if !known(state) {
		o.Invalid = append(o.Invalid, Report{id, reported})
		state = provider.StateCreating
	}
	if final(state) {
		return nil
	}
	in := &Instance{
		ID:           id,
		Cause:        Unexpected,
		RequestedAt:  now,
		DiscoveredAt: now,
		reported:     reported,
		suspend:      suspend{acknowledged: true},
	}
	if first {
		in.Cause = Preexisted
	} else if requested, asked := p.seen(); asked {
		in.Cause, in.RequestedAt = Requested, requested
	}
	in.enter(now, state)
	p.instances = append(p.instances, in)
	p.byID[id] = in
	return in
}
