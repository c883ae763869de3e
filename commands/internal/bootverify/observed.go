package bootverify

import (
	"context"
	"sync"

	"gitlab.com/gitlab-org/gitlab-runner/common"
)

// stagePrepare is the job's stage in which the executor gets everything ready.
const stagePrepare = "prepare_executor"

// observed is a slot that notes which stage of its job failed. After that the build goes on with others, and while
// it prepares get_sources runs beside, so that the build's own current stage does not tell.
type observed struct {
	common.Slot

	mu        sync.Mutex
	failed    string
	connected bool
}

// NewExecutor implements common.Slot.
func (o *observed) NewExecutor(job *common.Job) common.Executor {
	return &observedExecutor{Executor: o.Slot.NewExecutor(job), slot: o}
}

// note takes how a stage ended. The first that failed counts, but if the preparation does, then that: it takes
// get_sources along. One that succeeds at a later try did not fail.
func (o *observed) note(stage string, err error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err != nil && (o.failed == "" || stage == stagePrepare):
		o.failed = stage
	case err == nil && o.failed == stage:
		o.failed = ""
	}
	return err
}

// outcome returns the stage that failed, empty if none did, and whether the last executor reached its machine.
func (o *observed) outcome() (failed string, connected bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed, o.connected
}

func (o *observed) setConnected(connected bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.connected = connected
}

type observedExecutor struct {
	common.Executor
	slot *observed
}

// Connect implements common.Executor.
func (e *observedExecutor) Connect(ctx context.Context) (common.Machine, error) {
	machine, err := e.Executor.Connect(ctx)
	e.slot.setConnected(err == nil)
	return machine, e.slot.note(stagePrepare, err)
}

// Prepare implements common.Executor.
func (e *observedExecutor) Prepare(ctx context.Context) error {
	return e.slot.note(stagePrepare, e.Executor.Prepare(ctx))
}

// Run implements common.Executor.
func (e *observedExecutor) Run(ctx context.Context, stage common.Stage) error {
	return e.slot.note(stage.Name, e.Executor.Run(ctx, stage))
}
