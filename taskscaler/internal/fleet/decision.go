package fleet

import (
	"slices"
	"time"
)

// Kind is what a decision is about.
type Kind int

// The kinds of decisions.
const (
	// Lose: tell the owners of the instance's tasks that it is lost.
	Lose Kind = iota
	// Forget: drop what is known about an instance that is gone.
	Forget
	// Mark: put no more tasks on the instance and remove it as soon as it has none.
	Mark
	// Delete: ask for the deletion of the instance, which has no tasks.
	Delete
	// Prepare: make the instance ready; report the end with Prepared.
	Prepare
	// Check: check the health of the instance; report the end with Checked.
	Check
	// Sleep: ask for the suspension of the instance, which has suspended tasks only.
	Sleep
	// Place: offer a slot of the instance to a waiting task; answer with Confirm, Reject or Abandon.
	Place
	// Create: ask for instances.
	Create
)

var kindNames = [...]string{"lose", "forget", "mark", "delete", "prepare", "check", "sleep", "place", "create"}

func (k Kind) String() string { return kindNames[k] }

// Decision is something to be done now.
type Decision struct {
	Kind Kind
	// Reason is why, in words for the log.
	Reason string
	// Instance is what the decision is about; nil for Create.
	Instance *Instance
	// Task is the task that is placed.
	Task *Task
	// Count is the number of instances to create.
	Count int
}

// The reasons for which instances are marked for removal.
const (
	ReasonIdle       = "instance exceeded max idle time"
	ReasonUsedUp     = "instance exceeded max use count"
	ReasonUnfit      = "instance ready up preparation failed"
	ReasonUnhealthy  = "instance exceeded failure threshold"
	ReasonReturned   = "instance came back after it had vanished"
	ReasonAbandoned  = "suspended instance has no tasks left"
	ReasonDrained    = "instance was drained by the operator"
	reasonBeforeStop = " (before restart)"
)

// The reasons for which instances are taken for lost.
const (
	lossVanished  = "instance disappeared"
	lossDeletion  = "instance is being deleted by somebody else"
	lossSuspended = "instance was suspended by somebody else"
	lossReported  = "instance was reported lost: "
)

// Apply records that a decision is being carried out. Lose puts tasks whose owners do not know of the
// instance yet back to the head of the queue, and ends remembered tasks whose owners died with the last
// process if the instance will not be prepared any more, which is when they would be released.
func (s *State) Apply(d Decision, now time.Time) {
	in := d.Instance
	switch d.Kind {
	case Lose:
		in.lost, in.loss = true, d.Reason
		for _, t := range slices.Backward(in.slots) {
			switch {
			case t == nil:
			case t.phase == taskChecking:
				s.requeue(t)
			case t.phase == taskActive && in.phase == found:
				in.take(t)
				delete(s.tasks, t.key)
			}
		}
	case Forget:
		s.forget(in)
	case Mark:
		in.removal = d.Reason
	case Delete:
		in.deleting = true
	case Prepare:
		in.phase = preparing
	case Check:
		in.checking = true
	case Sleep:
		in.suspending = true
		// Should it still run by then, the request had no effect.
		in.nextSuspend = now.Add(suspendRetryDelay)
	case Place:
		s.dequeue(d.Task)
		in.put(d.Task, taskChecking)
		in.used++
		d.Task.placements++
	case Create:
		s.outstanding += d.Count
		s.existing += d.Count
		s.unseen += d.Count
		if s.config.Throttle != nil {
			s.config.Throttle.AllowN(now, d.Count)
		}
	}
}
