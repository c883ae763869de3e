// Package metrics is how the provisioner reports what it does. A Collector receives the figures; the
// nested module metrics/prometheus turns them into Prometheus metrics. Implementations must be safe
// for concurrent use and must not block: they are called from the provisioner's only goroutine.
package metrics

import "time"

// Instance states beside those of package provider that are reported to SetInstances.
const (
	// StateRequested counts instances that were asked for and not yet requested from the group.
	StateRequested = "requested"
	// StatePending counts instances that the group accepted and that were not seen yet.
	StatePending = "pending"
)

// Operations on instances, counted per instance.
const (
	OperationCreate  = "create"
	OperationDelete  = "delete"
	OperationSuspend = "suspend"
	OperationResume  = "resume"
)

// Internal operations: the steps of a provisioner cycle, counted per execution.
const (
	InternalReconcile = "reconcile"
	InternalPrune     = "prune"
	InternalRemoval   = "removal"
	InternalProvision = "provision"
	InternalSuspend   = "suspend"
	InternalResume    = "resume"
	InternalNotify    = "notify"
)

// Collector receives the provisioner's figures.
type Collector interface {
	// SetInstances sets the number of instances in a state: a provider.State that is not final,
	// StateRequested or StatePending.
	SetInstances(state string, count int)
	// SetMaxInstances sets the maximum number of instances, in any state.
	SetMaxInstances(count int)
	// AddMissedUpdates adds to the number of times a known instance was missing from an update.
	AddMissedUpdates(count int)
	// AddInstanceOperations adds to the number of accepted operations on instances.
	AddInstanceOperations(operation string, count int)
	// AddInternalOperations adds to the number of executed steps.
	AddInternalOperations(operation string, count int)
	// ObserveInstanceCreationTime records request to first sight, at the instance's discovery.
	ObserveInstanceCreationTime(d time.Duration)
	// ObserveInstanceIsRunningTime records request to running, when the instance first runs.
	ObserveInstanceIsRunningTime(d time.Duration)
	// ObserveInstanceDeletionTime records the call of Delete to the instance's end.
	ObserveInstanceDeletionTime(d time.Duration)
	// ObserveInstanceLifeDuration records request (or discovery) to the instance's end.
	ObserveInstanceLifeDuration(d time.Duration)
}

// Noop is a Collector that discards everything.
type Noop struct{}

var _ Collector = Noop{}

// NewNoop returns a Collector that discards everything.
func NewNoop() Noop { return Noop{} }

// SetInstances discards the figure.
func (Noop) SetInstances(string, int) {}

// SetMaxInstances discards the figure.
func (Noop) SetMaxInstances(int) {}

// AddMissedUpdates discards the figure.
func (Noop) AddMissedUpdates(int) {}

// AddInstanceOperations discards the figure.
func (Noop) AddInstanceOperations(string, int) {}

// AddInternalOperations discards the figure.
func (Noop) AddInternalOperations(string, int) {}

// ObserveInstanceCreationTime discards the figure.
func (Noop) ObserveInstanceCreationTime(time.Duration) {}

// ObserveInstanceIsRunningTime discards the figure.
func (Noop) ObserveInstanceIsRunningTime(time.Duration) {}

// ObserveInstanceDeletionTime discards the figure.
func (Noop) ObserveInstanceDeletionTime(time.Duration) {}

// ObserveInstanceLifeDuration discards the figure.
func (Noop) ObserveInstanceLifeDuration(time.Duration) {}
