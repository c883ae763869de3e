// Package pool is the state of an instance group and the plan for it. It is plain data and functions
// on it: no I/O, no clock, no goroutine, so a history of events can be replayed in a test.
//
// Events come in as method calls (Request, Delete, Suspend, Resume, Observe and the results of plugin
// calls), each with its time. Plan says what is to be done next, with a reason for each decision; it
// changes nothing. It guarantees that
//
//   - an increase never leads above the maximum size, counting instances in every state, those that
//     were accepted and not seen yet, and those for which the group's answer was lost;
//   - only instances on which Delete or DeleteAll was called are ever to be deleted;
//   - without further events it comes to rest: once the group does what it was asked for, the plan is
//     empty.
//
// A Pool must not be used concurrently. Only package fleeting imports it.
package pool

import (
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const (
	// MissedUpdates is the number of consecutive updates without an instance after which it counts as
	// gone.
	MissedUpdates = 5
	// settleUpdates is the number of updates for which a group may go on to report the old state after
	// it accepted a suspension or a resumption.
	settleUpdates = 5
	// PendingLimit is how long an accepted request waits for its instance to be seen.
	PendingLimit = 10 * time.Minute
	// unansweredLimit and unansweredUpdates are how long, and in how many updates, instances may still
	// turn up after the answer to their request was lost. Their places are kept free until both have
	// passed.
	unansweredLimit   = 30 * time.Second
	unansweredUpdates = 5
	// suspendWaitLimit bounds how long a resumption waits for a suspension to end.
	suspendWaitLimit = 5 * time.Minute
)

// Cause is why an instance exists.
type Cause int

// The causes of instances.
const (
	Preexisted Cause = iota
	Requested
	Unexpected
)

// Config is what a pool is made with.
type Config struct {
	// MaxSize is the maximum number of instances, in any state.
	MaxSize int
	// DeletionRetry is the time after which a deletion without effect is repeated.
	DeletionRetry time.Duration
	// RetryStep is the time before a refused deletion is tried again; it doubles up to DeletionRetry.
	RetryStep time.Duration
}

// Pool is the state of one group.
type Pool struct {
	cfg       Config
	instances []*Instance // in order of discovery
	byID      map[string]*Instance
	updates   int // successful ones
	requested []batch
	sent      []lot // not seen yet, the oldest first
}

// batch is a number of instances that were requested together.
type batch struct {
	n         int
	requested time.Time
}

// Instance is the state of one instance. Its fields are to be read only.
type Instance struct {
	ID    string
	Cause Cause
	State provider.State

	RequestedAt   time.Time // of the request, or of the discovery
	DiscoveredAt  time.Time
	ProvisionedAt time.Time // first seen running
	UpdatedAt     time.Time // last change of State
	DeletedAt     time.Time // deletion asked for, or found gone

	reported provider.State // by the last update that mentioned it
	missed   int            // consecutive updates that did not
	deletion deletion
	suspend  suspend
}

// deletion is how far the deletion of an instance has come.
type deletion struct {
	wanted   bool
	shutdown bool // there are few attempts left
	accepted bool
	attempts int // refused ones, since the last acceptance
	sent     time.Time
}

// suspend is how far a suspension or resumption has come.
type suspend struct {
	wanted       bool
	resume       bool
	resumeWanted time.Time
	acknowledged bool // the group has reported the state it was brought to
	since        int  // Pool.updates when the group accepted
}

// New returns an empty pool.
func New(cfg Config) *Pool {
	return &Pool{cfg: cfg, byID: map[string]*Instance{}}
}

// Instances returns the tracked instances in order of discovery. The slice belongs to the pool.
func (p *Pool) Instances() []*Instance { return p.instances }

// Get returns a tracked instance, or nil.
func (p *Pool) Get(id string) *Instance { return p.byID[id] }

// DeletionWanted tells whether the instance is going to be deleted.
func (in *Instance) DeletionWanted() bool { return in.deletion.wanted }

// ResumeWanted tells whether the instance is to be brought back to running.
func (in *Instance) ResumeWanted() bool { return in.suspend.resume }

// SuspendWanted tells whether the instance is about to be suspended.
func (in *Instance) SuspendWanted() bool { return in.suspend.wanted }

// Missed is the number of consecutive updates that did not mention the instance.
func (in *Instance) Missed() int { return in.missed }

// Gone tells whether the instance's life has ended.
func (in *Instance) Gone() bool { return final(in.State) }

func final(s provider.State) bool { return s == provider.StateDeleted || s == provider.StateTimeout }

// Delete asks for the deletion of an instance.
func (p *Pool) Delete(now time.Time, id string) { p.markDeleted(now, p.byID[id]) }

// DeleteAll asks for the deletion of every instance but the suspended ones, and drops all requests.
// Deletions that were asked for before are due again at once.
func (p *Pool) DeleteAll(now time.Time) {
	p.requested = nil
	for _, in := range p.instances {
		if in.State != provider.StateSuspended && in.State != provider.StateSuspending {
			p.markDeleted(now, in)
		}
		if in.deletion.wanted {
			in.deletion.shutdown = true
			in.deletion.sent = time.Time{}
		}
	}
}

func (p *Pool) markDeleted(now time.Time, in *Instance) {
	if in == nil || in.deletion.wanted {
		return
	}
	in.deletion.wanted = true
	in.suspend.wanted, in.suspend.resume = false, false
	if in.DeletedAt.IsZero() {
		in.DeletedAt = now
	}
}

// Suspend asks for the suspension of a running instance.
func (p *Pool) Suspend(id string) {
	in := p.byID[id]
	if in != nil && in.State == provider.StateRunning && !in.deletion.wanted {
		in.suspend.wanted = true
	}
}

// Resume asks for an instance to be brought back to running. A suspension that did not begin yet is
// called off.
func (p *Pool) Resume(now time.Time, id string) {
	in := p.byID[id]
	if in == nil || in.deletion.wanted {
		return
	}
	in.suspend.wanted = false
	if in.State != provider.StateRunning && !in.suspend.resume {
		in.suspend.resume, in.suspend.resumeWanted = true, now
	}
}

// CancelResume forgets that an instance was to be resumed.
func (p *Pool) CancelResume(id string) {
	if in := p.byID[id]; in != nil {
		in.suspend.resume = false
	}
}
