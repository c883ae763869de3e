package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"
)

// State is where a job stands.
type State string

// The states of a job, in GitLab's words.
const (
	StateCreated   State = "created"   // waits for an earlier stage or a dependency
	StatePending   State = "pending"   // may be handed out, or is handed out and not confirmed yet
	StateRunning   State = "running"   // a runner has confirmed it
	StateCanceling State = "canceling" // canceled, the runner is asked to finish in good order
	StateSuccess   State = "success"
	StateFailed    State = "failed"
	StateCanceled  State = "canceled"
	StateSkipped   State = "skipped" // never to be run because something before it failed
)

// Final reports whether a job never leaves this state.
func (s State) Final() bool {
	return s == StateSuccess || s == StateFailed || s == StateCanceled || s == StateSkipped
}

// Job is one job of the coordinator. Its methods read and steer it; all of them may be called at any time.
type Job struct {
	c        *Coordinator
	id       int64
	spec     JobSpec
	pipeline *Pipeline
	done     chan struct{}

	// Everything below is guarded by c.mu.
	changed     chan struct{}
	state       State
	token       string
	oldTokens   []string
	assigned    bool
	deadline    time.Time // of the confirmation, while assigned and pending
	accepts     []string  // failure reasons named in the payload
	declared    []declaredArtifact
	trace       []byte
	traceSum    uint32
	refusals    int
	stopped     bool // ended by the server, so the runner learns of it by its next request
	graceful    bool // the runner announced cancel_gracefully
	notBefore   map[Endpoint]time.Time
	excused     excuses
	failure     string
	exitCode    int
	times       Times
	lastChunk   chunk
	assignments []Assignment
	patches     []Patch
	updates     []Update
	artifacts   []*Artifact
}

// excuses are breaches that follow from an injected fault.
type excuses struct {
	traceRange   bool // until the next accepted chunk
	traceContent bool
	ended        bool // updates after the end
	lostHandout  bool // the payload never arrived
}

// Times are the moments of a job's life; those that have not come are zero.
type Times struct {
	Enqueued   time.Time
	Pending    time.Time // may be handed out from then on
	HandedOut  time.Time // the latest, if more than once
	Running    time.Time // confirmed by the runner
	FirstTrace time.Time
	Canceled   time.Time // Cancel was called
	Finished   time.Time
}

// Assignment is one handing out of a job.
type Assignment struct {
	Time     time.Time
	RunnerID int64
	SystemID string
	Info     Info
	Session  Session
}

// Session is where a runner offers a web terminal; zero without one.
type Session struct {
	URL           string `json:"url"`
	Certificate   string `json:"certificate"`
	Authorization string `json:"authorization"`
}

// Patch is one trace request, with what became of it.
type Patch struct {
	Time   time.Time
	Start  int64
	Length int
	Status int
	Debug  bool
}

// Update is one state update, with what became of it.
type Update struct {
	Time          time.Time
	State         State
	FailureReason string
	ExitCode      int
	Checksum      string
	Size          int64
	Status        int
}

// maxRecords bounds the patches and updates kept of one job.
const maxRecords = 10000

// Record is all that is known of a job at one moment.
type Record struct {
	ID            int64
	Name, Stage   string
	State         State
	FailureReason string
	ExitCode      int
	Times         Times
	Trace         []byte
	Assignments   []Assignment
	Patches       []Patch  // the first 10,000
	Updates       []Update // the first 10,000
	Artifacts     []*Artifact
}

// ID is the job's number.
func (j *Job) ID() int64 { return j.id }

// Name is the job's name.
func (j *Job) Name() string { return j.spec.Name }

// Stage is the name of the job's stage.
func (j *Job) Stage() string { return j.spec.Stage }

// Pipeline is the pipeline the job belongs to.
func (j *Job) Pipeline() *Pipeline { return j.pipeline }

// State is where the job stands now.
func (j *Job) State() State {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	return j.state
}

// Token is the job token of the latest handing out, empty before the first.
func (j *Job) Token() string {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	return j.token
}

// Trace is a copy of the log stored so far, byte for byte as received.
func (j *Job) Trace() []byte {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	return slices.Clone(j.trace)
}

// Record is a copy of everything known of the job.
func (j *Job) Record() Record {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	return Record{
		ID: j.id, Name: j.spec.Name, Stage: j.spec.Stage, State: j.state, FailureReason: j.failure, ExitCode: j.exitCode,
		Times: j.times, Trace: slices.Clone(j.trace), Assignments: slices.Clone(j.assignments),
		Patches: slices.Clone(j.patches), Updates: slices.Clone(j.updates), Artifacts: slices.Clone(j.artifacts),
	}
}

// Wait returns when the job has reached a final state, and fails with the cause of ctx when that ends first.
func (j *Job) Wait(ctx context.Context) error {
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for job %d %q, now %s: %w", j.id, j.spec.Name, j.State(), context.Cause(ctx))
	}
}

// WaitState returns when the job is in state. It fails when the job ends in another one, or with the cause of ctx.
func (j *Job) WaitState(ctx context.Context, state State) error {
	return j.await(ctx, "state "+string(state), func() bool { return j.state == state })
}

// WaitTrace returns when the stored log contains text. It fails when the job ends without it, or with the cause of ctx.
func (j *Job) WaitTrace(ctx context.Context, text string) error {
	return j.await(ctx, fmt.Sprintf("%q in the trace", text), func() bool { return bytes.Contains(j.trace, []byte(text)) })
}

// await polls condition, which is called with c.mu held, after every change of the job.
func (j *Job) await(ctx context.Context, what string, condition func() bool) error {
	for {
		j.c.mu.Lock()
		met, state, changed := condition(), j.state, j.changed
		j.c.mu.Unlock()
		if met {
			return nil
		}
		if state.Final() {
			return fmt.Errorf("job %d %q ended as %s without %s", j.id, j.spec.Name, state, what)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s of job %d %q, now %s: %w", what, j.id, j.spec.Name, state, context.Cause(ctx))
		}
	}
}

// Cancel cancels the job as the button in GitLab does: gracefully, the runner is asked to finish with after_script, if it
// announced that it can; else the job is canceled at once and the runner learns of it by its next request. Canceling a
// job that has ended changes nothing.
func (j *Job) Cancel(graceful bool) {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	if j.state.Final() {
		return
	}
	if j.times.Canceled.IsZero() {
		j.times.Canceled = time.Now()
	}
	if graceful && j.graceful && (j.state == StateRunning || j.state == StateCanceling) {
		j.setState(StateCanceling)
		return
	}
	j.stopped = j.assigned
	j.end(StateCanceled)
}

// Fail ends the job from the server's side, as GitLab does with stuck jobs; the runner learns of it by its next request.
// A job that has ended is left as it is.
func (j *Job) Fail(reason string) {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	if j.state.Final() {
		return
	}
	j.failure = reason
	j.stopped = j.assigned
	j.end(StateFailed)
}

// TruncateTrace forgets the stored log from size bytes on, as a server that lost data. It fails if there is less.
func (j *Job) TruncateTrace(size int) error {
	j.c.mu.Lock()
	defer j.c.mu.Unlock()
	if size < 0 || size > len(j.trace) {
		return errors.New("truncate trace: it is not that long")
	}
	j.truncateTrace(size)
	return nil
}

// truncateTrace needs c.mu. Subscribers may hold parts of the old trace, so it is copied.
func (j *Job) truncateTrace(size int) {
	j.trace = slices.Clone(j.trace[:size])
	j.traceSum = crc32.ChecksumIEEE(j.trace)
	j.excused.traceRange = true
}

// setState moves the job and tells everybody who waits. The caller holds c.mu.
func (j *Job) setState(state State) {
	if j.state == state {
		return
	}
	j.state = state
	if state.Final() {
		j.times.Finished = time.Now()
		j.assigned = false
		close(j.done)
	}
	j.notify()
	j.c.publish(Event{Kind: EventState, Job: j, State: state})
}

// end moves the job to a final state and lets others follow. The caller holds c.mu.
func (j *Job) end(state State) {
	j.c.unqueue(j)
	j.setState(state)
	j.c.advance(j.pipeline)
	for _, other := range j.c.pipelines {
		if other != j.pipeline && other.waitsFor(j) {
			j.c.advance(other)
		}
	}
}

// notify wakes those who wait for a change. The caller holds c.mu.
func (j *Job) notify() {
	close(j.changed)
	j.changed = make(chan struct{})
}

// authorize finds the job of a request and checks the token against it. Without a job that this token may steer it
// answers 403 and returns nil. The caller holds c.mu.
func (c *Coordinator) authorize(x *exchange, token string) *Job {
	job := c.jobs[x.jobID]
	switch {
	case job == nil:
		c.violate(RuleJobToken, x.jobID, "%s for a job that does not exist", x.endpoint)
		refuse(x.w, 403)
		return nil
	case job.token == token && token != "":
		return job
	}
	if !slices.Contains(job.oldTokens, token) {
		c.violate(RuleJobToken, job.id, "%s with a token that is not this job's", x.endpoint)
	}
	x.w.Header().Set("Job-Status", string(job.state))
	refuse(x.w, 403)
	return nil
}

// maxAfterStop is how many requests may still come after the first one that told the runner to stop: what was under way
// plus the final trace and update.
const maxAfterStop = 4

// refuseEnded answers a request about a job that runs no more. The caller holds c.mu.
func (c *Coordinator) refuseEnded(x *exchange, job *Job) {
	job.refusals++
	switch {
	case job.excused.ended:
	case !job.stopped:
		c.violate(RuleStopped, job.id, "%s after the job had ended as %s", x.endpoint, job.state)
	case job.refusals == maxAfterStop+1:
		c.violate(RuleStopped, job.id, "the client goes on after it was told %d times that the job is %s", maxAfterStop, job.state)
	}
	x.w.Header().Set("Job-Status", string(job.state))
	refuse(x.w, 403)
}
