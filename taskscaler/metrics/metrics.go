// Package metrics is how the scaler reports what it does. A Collector receives the figures; the nested
// module metrics/prometheus turns them into Prometheus metrics. Implementations must be safe for
// concurrent use and must not block: they are called from the scaler's only goroutine.
package metrics

import "time"

// States of tasks and slots that are reported to SetTasks.
const (
	// StateIdle counts slots that can take a task now.
	StateIdle = "idle"
	// StatePending counts tasks that wait for a slot.
	StatePending = "pending"
	// StateAcquired counts slots that a task holds.
	StateAcquired = "acquired"
	// StateReserved counts announced tasks. They are no slots: each becomes pending or goes away.
	StateReserved = "reserved"
	// StateUnavailable counts free slots that will never take a task again.
	StateUnavailable = "unavailable"
	// StateUnhealthy counts free slots of instances that failed their last health check.
	StateUnhealthy = "unhealthy"
	// StateSuspended counts slots that a suspended task holds.
	StateSuspended = "suspended"
)

// Operations on tasks.
const (
	OperationReserve   = "reserve"
	OperationUnreserve = "unreserve"
	OperationAcquire   = "acquire"
	OperationRelease   = "release"
	OperationSuspend   = "suspend"
	OperationResume    = "resume"

	// OperationAcquireFailure counts tasks that stopped waiting before they got a slot.
	OperationAcquireFailure = "acquire_failure"
	// OperationReservePotentialFailure counts reservations that were refused because there is neither
	// a free slot nor room for another instance.
	OperationReservePotentialFailure = "reserve_iop_capacity_failure"
	// OperationReserveAvailableFailure counts reservations that were refused because there is no free
	// slot now.
	OperationReserveAvailableFailure = "reserve_available_capacity_failure"
	// OperationReserveThrottled counts reservations that were refused so that an instance can go.
	OperationReserveThrottled = "reserve_throttled"
)

// Scale operations, counted per instance.
const (
	ScaleUp   = "up"
	ScaleDown = "down"
)

// Collector receives the scaler's figures.
type Collector interface {
	// SetTasks sets the number of tasks or slots in a state.
	SetTasks(state string, count int)
	// SetMaxTasksPerInstance sets the number of slots of an instance.
	SetMaxTasksPerInstance(count int)
	// SetMaxUseCountPerInstance sets how many tasks an instance serves in its life; 0 is no limit.
	SetMaxUseCountPerInstance(count int)
	// SetDesiredInstances sets the number of instances that are wanted now.
	SetDesiredInstances(count int)
	// AddTaskOperations adds to the number of operations on tasks.
	AddTaskOperations(operation string, count int)
	// AddScaleOperations adds to the number of instances asked for or given up.
	AddScaleOperations(operation string, count int)
	// ObserveTaskInstanceReadinessTime records the time from an instance's first sight in running
	// state until it was ready for tasks.
	ObserveTaskInstanceReadinessTime(d time.Duration)
}

// Noop is a Collector that discards everything.
type Noop struct{}

var _ Collector = Noop{}

// NewNoop returns a Collector that discards everything.
func NewNoop() Noop { return Noop{} }

// SetTasks discards the figure.
func (Noop) SetTasks(string, int) {}

// SetMaxTasksPerInstance discards the figure.
func (Noop) SetMaxTasksPerInstance(int) {}

// SetMaxUseCountPerInstance discards the figure.
func (Noop) SetMaxUseCountPerInstance(int) {}

// SetDesiredInstances discards the figure.
func (Noop) SetDesiredInstances(int) {}

// AddTaskOperations discards the figure.
func (Noop) AddTaskOperations(string, int) {}

// AddScaleOperations discards the figure.
func (Noop) AddScaleOperations(string, int) {}

// ObserveTaskInstanceReadinessTime discards the figure.
func (Noop) ObserveTaskInstanceReadinessTime(time.Duration) {}
