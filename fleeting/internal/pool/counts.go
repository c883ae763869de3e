package pool

import "gitlab.com/gitlab-org/fleeting/fleeting/provider"

// Counts is the number of instances by state.
type Counts struct {
	Max        int
	Requested  int // asked for, not sent to the group yet
	Pending    int // accepted by the group, not seen yet
	Unanswered int // perhaps accepted: the group's answer was lost
	Creating   int
	Running    int
	Deleting   int
	Suspending int
	Suspended  int
	Resuming   int
}

// Total is the number of places that are taken or may be.
func (c Counts) Total() int {
	return c.Pending + c.Unanswered + c.Creating + c.Running + c.Deleting + c.Suspending + c.Suspended + c.Resuming
}

// Room is the number of instances that may still be asked for.
func (c Counts) Room() int { return max(0, c.Max-c.Total()) }

// Counts returns the number of instances by state.
func (p *Pool) Counts() Counts {
	c := Counts{
		Max:       p.cfg.MaxSize,
		Requested: count(p.requested),
	}
	for _, l := range p.sent {
		if l.answered {
			c.Pending++
		} else {
			c.Unanswered++
		}
	}
	for _, in := range p.instances {
		switch in.State {
		case provider.StateRunning:
			c.Running++
		case provider.StateDeleting:
			c.Deleting++
		case provider.StateSuspending:
			c.Suspending++
		case provider.StateSuspended:
			c.Suspended++
		case provider.StateResuming:
			c.Resuming++
		default:
			c.Creating++
		}
	}
	return c
}

// Expecting tells whether something is expected to change soon: something was asked for and is not
// done, or an instance is in a state that passes by itself.
func (p *Pool) Expecting() bool {
	c := p.Counts()
	if c.Pending+c.Unanswered+c.Creating+c.Deleting+c.Suspending+c.Resuming > 0 {
		return true
	}
	if c.Requested > 0 && c.Room() > 0 {
		return true
	}
	for _, in := range p.instances {
		if in.deletion.wanted || in.suspend.wanted || in.suspend.resume {
			return true
		}
	}
	return false
}
