package fleet

// Task is somebody's wish for a slot and later their hold on one. It exists from Enqueue (or from the
// restoration of its instance) until it is released.
type Task struct {
	key   string
	phase taskPhase

	// instance is nil while the task waits.
	instance *Instance
	slot     int

	// placements counts how often the task was put on an instance. It tells an answer about an earlier
	// placement from one about the present.
	placements int
}

type taskPhase int

const (
	// taskWaiting: in the queue.
	taskWaiting taskPhase = iota
	// taskChecking: on an instance whose health is being checked; the owner does not know it yet.
	taskChecking
	// taskActive: its owner works on the instance.
	taskActive
	// taskSuspended: its owner does not; the slot is kept.
	taskSuspended
	// taskResuming: suspended, and the owner waits for the instance to run.
	taskResuming

	taskPhases
)

// Key identifies the task.
func (t *Task) Key() string { return t.key }

// Slot is the number of the slot, from 0.
func (t *Task) Slot() int { return t.slot }

// Instance is where the task was placed; nil while it waits.
func (t *Task) Instance() *Instance { return t.instance }

// Placement is the number of the present placement; Confirm and Reject refer to it.
func (t *Task) Placement() int { return t.placements }

// Active tells whether the task's owner works on the instance.
func (t *Task) Active() bool { return t.phase == taskActive }

// Suspended tells whether the task is suspended or about to be resumed.
func (t *Task) Suspended() bool { return t.phase == taskSuspended || t.phase == taskResuming }
