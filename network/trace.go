package network

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/tracebuffer"
)

// reporter is what a Trace needs of a Client.
type reporter interface {
	UpdateJob(ctx context.Context, runner *config.Runner, job JobRef, update JobUpdate) UpdateResult
	PatchTrace(ctx context.Context, runner *config.Runner, job JobRef, content []byte, offset int64, debug bool) PatchResult
}

// TraceOptions say whose log a Trace is.
type TraceOptions struct {
	Runner *config.Runner
	Info   spec.RunnerVersion
	Job    JobRef
	// Debug says that the log may hold secrets (CI_DEBUG_TRACE), so that fewer people may see it.
	Debug bool
	// DynamicForceInterval lets the keep-alives become rarer as the server's update interval grows
	// (FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL).
	DynamicForceInterval bool
}

// Outcome is how a job ended. Reason is one the server knows; it and ExitCode are for failures only.
type Outcome struct {
	Success  bool
	Reason   string
	ExitCode int
}

// Trace reports on one job: it takes its log, sends it while the job runs, hears of cancellations, and
// gives the final account. Its life is
//
//	NewTrace → Commit → Write… → Finish
//
// with Discard in the place of Finish, or of all after NewTrace, for a job that is not ours to report
// on. Write, OnCancel and OnAbort are safe for concurrent use; the other methods are for one owner.
type Trace struct {
	api     reporter
	options TraceOptions
	log     logrus.FieldLogger
	buffer  *tracebuffer.Buffer

	// written has a token when there may be something to send.
	written chan struct{}
	// stop ends the loop, loop is closed when it has ended and cancel ends its requests.
	stop   chan struct{}
	loop   chan struct{}
	cancel context.CancelCauseFunc

	mu      sync.Mutex
	onEvent [2]func()
	events  [2]eventState

	// What follows belongs to the loop while it runs, and to the owner before and after.

	committed bool
	// refused says that the server does not take the log, though the job goes on.
	refused bool
	sent    int64
	cadence cadence
}

// NewTrace returns the trace of a job. If it cannot be made the job is reported as failed, since
// nothing else could be.
func (c *Client) NewTrace(ctx context.Context, o TraceOptions) (*Trace, error) {
	return newTrace(ctx, c, c.log, o)
}

func newTrace(ctx context.Context, api reporter, log logrus.FieldLogger, o TraceOptions) (*Trace, error) {
	const kibibyte = 1 << 10
	buffer, err := tracebuffer.New(int64(o.Runner.OutputLimit) * kibibyte)
	if err != nil {
		api.UpdateJob(ctx, o.Runner, o.Job, JobUpdate{Info: o.Info, State: JobFailed, FailureReason: "runner_system_failure"})
		return nil, err
	}
	return &Trace{
		api: api, options: o, buffer: buffer,
		log:     log.WithFields(logrus.Fields{"job": o.Job.ID, "runner": o.Runner.ShortToken()}),
		written: make(chan struct{}, 1), stop: make(chan struct{}),
		cadence: newCadence(o.DynamicForceInterval),
	}, nil
}

// Write adds to the log. It fails after Finish, or if the disk does.
func (t *Trace) Write(p []byte) (int, error) {
	n, err := t.buffer.Write(p)
	select {
	case t.written <- struct{}{}:
	default:
	}
	return n, err
}

// CommitState is what Commit finds out.
type CommitState int

// What Commit finds out.
const (
	// Committed: the job is ours, or the server could not be asked; run it.
	Committed CommitState = iota
	// CommitCanceled: somebody cancelled the job. Finish it as failed, with the reason job_canceled.
	CommitCanceled
	// CommitAborted: the job is not ours. Discard it.
	CommitAborted
)

// Commit tells the server that the job is being run, without which it would be given to somebody else,
// and starts to send the log.
func (t *Trace) Commit(ctx context.Context) CommitState {
	result := t.update(ctx, JobUpdate{State: JobRunning})
	now := time.Now()
	switch {
	case result.State == UpdateAborted:
		return CommitAborted
	case result.CancelRequested:
		return CommitCanceled
	case result.State == UpdateFailed:
		t.cadence.touchFailed(now)
	default:
		t.committed = true
		t.cadence.touched(now)
	}
	var loopContext context.Context
	loopContext, t.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	t.loop = make(chan struct{})
	go t.run(loopContext)
	return Committed
}

// Finish ends the log, sends what is left of it and reports the outcome, as often as it takes, up to
// the limit of the runner entry. It returns without an error once the server has all, or does not want
// it. The log is gone afterwards in any case.
func (t *Trace) Finish(ctx context.Context, o Outcome) error {
	t.buffer.Finish()
	t.stopLoop()
	err := t.reportOutcome(ctx, o)
	if closeErr := t.buffer.Close(); closeErr != nil {
		t.log.WithError(closeErr).Warn("The job log could not be removed from the disk")
	}
	if err != nil {
		return fmt.Errorf("reporting the outcome of job %d: %w", t.options.Job.ID, err)
	}
	return nil
}

// Discard ends the trace without another word to the server.
func (t *Trace) Discard() {
	t.buffer.Finish()
	t.stopLoop()
	if err := t.buffer.Close(); err != nil {
		t.log.WithError(err).Warn("The job log could not be removed from the disk")
	}
}

var errFinishing = errors.New("the job has ended")

// stopGrace is how long a request that is under way when the job ends may still take. What became of
// one that is cut off shows in the next; of a busy server that asks for one more, so that only a dead
// connection should be given up.
const stopGrace = 10 * time.Second

func (t *Trace) stopLoop() {
	if t.loop == nil {
		return
	}
	close(t.stop)
	timer := time.AfterFunc(stopGrace, func() { t.cancel(errFinishing) })
	<-t.loop
	timer.Stop()
	t.cancel(errFinishing)
}

func (t *Trace) update(ctx context.Context, update JobUpdate) UpdateResult {
	update.Info = t.options.Info
	result := t.api.UpdateJob(ctx, t.options.Runner, t.options.Job, update)
	t.cadence.asked(result.Interval)
	return result
}

// event is something that the server says about a running job.
type event int

const (
	canceled event = iota
	aborted
)

type eventState int

const (
	notHappened eventState = iota
	happened
	delivered
)

// OnCancel sets what is called, at most once, when somebody cancels the job: it is to end early, but in
// order. The function is called at once if that has happened. It must not wait for the Trace.
func (t *Trace) OnCancel(call func()) { t.on(canceled, call) }

// OnAbort sets what is called, at most once, when the job is over for the server: it is to stop at
// once. It may follow a cancellation. See OnCancel.
func (t *Trace) OnAbort(call func()) { t.on(aborted, call) }

func (t *Trace) on(e event, call func()) {
	t.mu.Lock()
	t.onEvent[e] = call
	t.mu.Unlock()
	t.deliver(e)
}

func (t *Trace) happen(e event) {
	t.mu.Lock()
	if t.events[e] == notHappened {
		t.events[e] = happened
	}
	t.mu.Unlock()
	t.deliver(e)
}

func (t *Trace) hasHappened(e event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.events[e] != notHappened
}

func (t *Trace) deliver(e event) {
	t.mu.Lock()
	call := t.onEvent[e]
	if call == nil || t.events[e] != happened {
		t.mu.Unlock()
		return
	}
	t.events[e] = delivered
	t.mu.Unlock()
	call()
}
