package taskscaler

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
)

// Inspector is implemented by the Taskscaler that New returns. Its methods are safe for concurrent use.
type Inspector interface {
	// Snapshot returns what the scaler knows at one moment, with the history of the last hour. The
	// caller owns it. After the end of Shutdown it is empty.
	Snapshot() Snapshot
	// Drain has an instance take no more tasks and removed when it has none. It fails with an error that
	// wraps ErrUnknownInstance or ErrShutdown. What was drained is remembered across a restart only by a
	// storage.
	Drain(instanceID string) error
}

// Snapshot is what a scaler knows at one moment. It holds no data for connections.
type Snapshot struct {
	At time.Time `json:"at"`
	// CapacityPerInstance is the number of slots of an instance that can be used.
	CapacityPerInstance int `json:"capacity_per_instance"`
	// MaxInstances and MaxUseCount are 0 without a limit.
	MaxInstances int `json:"max_instances"`
	MaxUseCount  int `json:"max_use_count"`
	// IdleCount and IdleTime are those of the schedule in force.
	IdleCount int           `json:"idle_count"`
	IdleTime  time.Duration `json:"idle_time_ns"`
	// Held is why fewer instances are created than required; empty if they are not.
	Held string `json:"held"`
	// Pending is the number of tasks that wait for a slot, Reserved that of announced ones.
	Pending  int `json:"pending"`
	Reserved int `json:"reserved"`

	// Instances are sorted by the time of their discovery, then by id.
	Instances []InstanceStatus `json:"instances"`
	// Events and Samples are those of the last hour, the oldest first, and bounded in number.
	Events  []Event  `json:"events"`
	Samples []Sample `json:"samples"`
}

// InstanceStatus is one instance at one moment.
type InstanceStatus struct {
	ID string `json:"id"`
	// State is what the group says.
	State provider.State `json:"state"`
	// Condition is what that means for tasks.
	Condition Condition `json:"condition"`
	// Removal is why the instance will be or is removed; empty if it is not.
	Removal string `json:"removal"`
	// Found is when it was first seen, Running when it was first seen running, IdleSince when it was last
	// used. They are zero if that has not happened.
	Found     time.Time `json:"found"`
	Running   time.Time `json:"running,omitzero"`
	IdleSince time.Time `json:"idle_since,omitzero"`
	// Used is how many tasks it got, restored ones included.
	Used int `json:"used"`
	// Failures is the number of failed health checks since the last good one.
	Failures int `json:"failures"`
	// Tasks are those that hold a slot, by slot.
	Tasks []TaskStatus `json:"tasks"`
}

// TaskStatus is a task that holds a slot.
type TaskStatus struct {
	Key       string `json:"key"`
	Slot      int    `json:"slot"`
	Suspended bool   `json:"suspended,omitempty"`
}

// Condition is what an instance is good for.
type Condition string

// The conditions of instances.
const (
	// ConditionStarting: it does not run yet.
	ConditionStarting Condition = "starting"
	// ConditionPreparing: it runs and is being made ready.
	ConditionPreparing Condition = "preparing"
	// ConditionIdle: ready, without tasks.
	ConditionIdle Condition = "idle"
	// ConditionBusy: ready, with tasks.
	ConditionBusy Condition = "busy"
	// ConditionUnhealthy: its last health check failed.
	ConditionUnhealthy Condition = "unhealthy"
	// ConditionDraining: it takes no more tasks and goes when it has none.
	ConditionDraining Condition = "draining"
	// ConditionDeleting: its deletion was asked for.
	ConditionDeleting Condition = "deleting"
	// ConditionLost: it was lost to its tasks.
	ConditionLost Condition = "lost"
	// ConditionSuspended: it is suspended, or about to be or to be resumed.
	ConditionSuspended Condition = "suspended"
)

// EventKind is what an event is about.
type EventKind string

// The kinds of events.
const (
	// EventCreate: instances were asked for.
	EventCreate EventKind = "create"
	// EventHeld: fewer instances than required were asked for.
	EventHeld EventKind = "held"
	// EventReady: an instance became ready.
	EventReady EventKind = "ready"
	// EventUnfit: an instance could not be made ready.
	EventUnfit EventKind = "unfit"
	// EventMark: an instance was marked for removal.
	EventMark EventKind = "mark"
	// EventDelete: the deletion of an instance was asked for.
	EventDelete EventKind = "delete"
	// EventLost: an instance was lost.
	EventLost EventKind = "lost"
	// EventSuspend: an instance was suspended.
	EventSuspend EventKind = "suspend"
)

// Event is a decision, or something that decisions rest on.
type Event struct {
	At     time.Time `json:"at"`
	Kind   EventKind `json:"kind"`
	Reason string    `json:"reason"`
	// Instance is empty if it is about none in particular.
	Instance string `json:"instance,omitempty"`
	// Count is the number of instances it is about.
	Count int `json:"count"`
}

// Sample is a set of figures, which hold until the next sample.
type Sample struct {
	At time.Time `json:"at"`
	// Instances provide capacity or will; Desired is how many there should be.
	Instances int `json:"instances"`
	Desired   int `json:"desired"`
	// Slots can take a task now or later, or have one. Busy is the number of those that have one.
	Slots int `json:"slots"`
	Busy  int `json:"busy"`
	// Demand is the number of tasks that have a slot, wait for one or are announced.
	Demand int `json:"demand"`
}

// Snapshot implements Inspector.
func (s *scaler) Snapshot() Snapshot {
	var snapshot Snapshot
	s.ask(func(now time.Time) { snapshot = s.snapshot(now) })
	return snapshot
}

func (s *scaler) snapshot(now time.Time) Snapshot {
	schedule, tally := s.timetable.Load().at(now), s.state.Tally(now)
	out := Snapshot{
		At: now, CapacityPerInstance: s.state.CapacityPerInstance(),
		MaxInstances: s.options.fleet.MaxInstances, MaxUseCount: s.options.fleet.MaxUseCount,
		IdleCount: schedule.IdleCount, IdleTime: schedule.IdleTime, Held: s.report.held,
		Pending: tally.Pending, Reserved: tally.Reserved, Instances: []InstanceStatus{},
	}
	for _, in := range s.state.Instances() {
		if !in.Gone() || in.Lost() {
			out.Instances = append(out.Instances, statusOf(in))
		}
	}
	slices.SortStableFunc(out.Instances, func(a, b InstanceStatus) int {
		return cmp.Or(a.Found.Compare(b.Found), cmp.Compare(a.ID, b.ID))
	})
	out.Events, out.Samples = s.history.since(now)
	return out
}

func statusOf(in *fleet.Instance) InstanceStatus {
	status := InstanceStatus{
		ID: in.ID(), State: in.State(), Condition: conditionOf(in), Removal: in.Removal(),
		Found: in.FoundAt(), Running: in.RunningSince(), IdleSince: in.IdleSince(),
		Used: in.Used(), Failures: in.Failures(), Tasks: []TaskStatus{},
	}
	for _, t := range in.Tasks() {
		status.Tasks = append(status.Tasks, TaskStatus{Key: t.Key(), Slot: t.Slot(), Suspended: t.Suspended()})
	}
	return status
}

func conditionOf(in *fleet.Instance) Condition {
	switch {
	case in.Lost():
		return ConditionLost
	case in.Deleting(), in.State() == provider.StateDeleting:
		return ConditionDeleting
	case in.Removal() != "":
		return ConditionDraining
	case in.State() == provider.StateSuspending, in.State() == provider.StateSuspended, in.State() == provider.StateResuming:
		return ConditionSuspended
	case in.State() != provider.StateRunning:
		return ConditionStarting
	case !in.Ready():
		return ConditionPreparing
	case in.Failures() > 0:
		return ConditionUnhealthy
	case len(in.Tasks()) > 0:
		return ConditionBusy
	}
	return ConditionIdle
}

// Drain implements Inspector.
func (s *scaler) Drain(instanceID string) error {
	if s.ctx.Err() != nil {
		return fmt.Errorf("draining instance %q: %w", instanceID, ErrShutdown)
	}
	err := error(ErrShutdown)
	s.do(func(time.Time) {
		err = ErrUnknownInstance
		for _, in := range s.state.Instances() {
			if in.ID() == instanceID && !in.Gone() {
				s.state.Drain(in)
				err = nil
			}
		}
	})
	if err != nil {
		return fmt.Errorf("draining instance %q: %w", instanceID, err)
	}
	return nil
}
