package localrun

import (
	"context"
	"errors"
	"io"
	"net/http"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/relay"
)

// linkedSlot is a slot whose executors let the helper reach the server.
type linkedSlot struct {
	common.Slot
	server http.Handler
	// address is where the helper sees it.
	address string
}

// NewExecutor implements common.Slot.
func (s linkedSlot) NewExecutor(job *common.Job) common.Executor {
	return &linkedExecutor{Executor: s.Slot.NewExecutor(job), slot: s}
}

type linkedExecutor struct {
	common.Executor
	slot linkedSlot
}

// asksServer says whether a stage has to do with the server.
func asksServer(p *plan.Plan) bool {
	return p != nil && (p.Sources != nil || len(p.DownloadArtifacts) > 0 || len(p.UploadArtifacts) > 0)
}

// Run implements common.Executor.
func (e *linkedExecutor) Run(ctx context.Context, stage common.Stage) error {
	if stage.Where != common.InHelper || !asksServer(stage.Plan) {
		return e.Executor.Run(ctx, stage)
	}
	input, toHelper := io.Pipe()
	fromHelper, output := io.Pipe()
	stop, err := relay.Serve(stream{Reader: fromHelper, Writer: toHelper, ends: []io.Closer{fromHelper, toHelper}}, e.slot.server)
	if err != nil {
		return err
	}
	defer stop()
	defer output.Close()

	linked := *stage.Plan
	linked.Relay = e.slot.address
	stage.Plan, stage.Input, stage.Stdout = &linked, input, output
	return e.Executor.Run(ctx, stage)
}

// stream is one end of two pipes.
type stream struct {
	io.Reader
	io.Writer
	ends []io.Closer
}

// Close implements io.Closer.
func (s stream) Close() error {
	var errs []error
	for _, end := range s.ends {
		errs = append(errs, end.Close())
	}
	return errors.Join(errs...)
}
