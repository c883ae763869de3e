package coordinator

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// updateRequest is the body of a state update; pointers tell "absent" from "zero".
type updateRequest struct {
	Info          json.RawMessage `json:"info"`
	Token         string          `json:"token"`
	State         State           `json:"state"`
	FailureReason *string         `json:"failure_reason"`
	Checksum      *string         `json:"checksum"`
	Output        *struct {
		Checksum *string `json:"checksum"`
		Size     *int64  `json:"bytesize"`
	} `json:"output"`
	ExitCode *int `json:"exit_code"`
}

func (c *Coordinator) updateJob(x *exchange) {
	var request updateRequest
	if !c.decode(x, &request) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkInfo(x, request.Info)
	if x.r.Header.Get("JOB-TOKEN") != request.Token {
		c.violate(RuleJobToken, x.jobID, "%s: JOB-TOKEN is not the token in the body", x.endpoint)
	}
	if job := c.jobs[x.jobID]; job != nil && slices.Contains(job.oldTokens, request.Token) && request.State == StateRunning {
		// The job was given to somebody else in the meantime.
		x.w.Header().Set("Job-Status", string(job.state))
		refuse(x.w, http.StatusConflict)
		return
	}
	job := c.authorize(x, request.Token)
	if job == nil {
		return
	}
	c.checkUpdate(job, request)
	defer func() { job.noteUpdate(request, x.w.status) }()

	switch {
	case job.state.Final():
		c.refuseEnded(x, job)
	case request.State == StatePending:
		if job.state != StatePending {
			c.violate(RuleUpdate, job.id, "keep-alive for a job that is %s", job.state)
			c.answerUpdate(x, job, http.StatusBadRequest)
			return
		}
		job.deadline = time.Now().Add(c.cfg.CommitTimeout)
		c.answerUpdate(x, job, http.StatusOK)
	case request.State == StateRunning:
		if job.state == StatePending {
			job.times.Running = time.Now()
			job.setState(StateRunning)
		}
		c.answerUpdate(x, job, http.StatusOK)
	case request.State == StateSuccess, request.State == StateFailed:
		c.finish(x, job, request)
	default:
		c.answerUpdate(x, job, http.StatusBadRequest)
	}
}

// answerUpdate tells the job's state and how often to report.
func (c *Coordinator) answerUpdate(x *exchange, job *Job, status int) {
	c.setJobHeaders(x, job)
	reply(x.w, status, strconv.Itoa(status))
}

func (c *Coordinator) setJobHeaders(x *exchange, job *Job) {
	x.w.Header().Set("Job-Status", string(job.state))
	if c.cfg.UpdateInterval > 0 {
		seconds := int(math.Ceil(c.cfg.UpdateInterval.Seconds()))
		x.w.Header().Set("X-GitLab-Trace-Update-Interval", strconv.Itoa(seconds))
	}
}

// finish stores the result, or asks for the trace once more when what arrived is not what was sent.
func (c *Coordinator) finish(x *exchange, job *Job, request updateRequest) {
	if job.state == StatePending && request.State == StateSuccess {
		c.violate(RuleCommit, job.id, "reported as success without having been confirmed as running")
	}
	if !job.excused.traceContent {
		if problem := job.traceProblem(request); problem != "" {
			c.violate(RuleTraceContent, job.id, "%s", problem)
			// Asked for once; a client that gets it wrong again is not kept in a loop.
			job.excused.traceContent = true
			job.truncateTrace(0)
			c.answerUpdate(x, job, http.StatusPreconditionFailed)
			return
		}
	}
	if request.FailureReason != nil {
		job.failure = *request.FailureReason
	}
	if request.ExitCode != nil {
		job.exitCode = *request.ExitCode
	}
	state := request.State
	if job.state == StateCanceling {
		state = StateCanceled
	}
	if x.w.lost {
		job.excused.ended = true
	}
	job.end(state)
	c.answerUpdate(x, job, http.StatusOK)
}

// traceProblem compares what the runner says of its trace with what is stored.
func (j *Job) traceProblem(request updateRequest) string {
	if request.Output == nil || request.Output.Checksum == nil {
		if len(j.trace) == 0 {
			return ""
		}
		return "final update without output.checksum"
	}
	var size int64
	if request.Output.Size != nil {
		size = *request.Output.Size
	}
	if size != int64(len(j.trace)) {
		return fmt.Sprintf("final update says %d bytes of trace, %d are stored", size, len(j.trace))
	}
	if want := fmt.Sprintf("crc32:%08x", j.traceSum); *request.Output.Checksum != want {
		return fmt.Sprintf("final update says checksum %q, the stored trace has %s", clip(*request.Output.Checksum), want)
	}
	if !utf8.Valid(j.trace) {
		return "the trace is not valid UTF-8"
	}
	return ""
}

// alwaysAccepted are the failure reasons that need not be announced, and the last resort.
var alwaysAccepted = []string{"script_failure", "runner_system_failure", "job_execution_timeout", "unknown_failure"}

// checkUpdate notes what is inconsistent in an update. The caller holds c.mu.
func (c *Coordinator) checkUpdate(job *Job, request updateRequest) {
	breach := func(format string, args ...any) { c.violate(RuleUpdate, job.id, format, args...) }
	switch request.State {
	case StatePending, StateRunning, StateSuccess, StateFailed:
	default:
		breach("state %q is none of pending, running, success, failed", clip(string(request.State)))
	}
	if request.FailureReason != nil {
		reason := *request.FailureReason
		switch {
		case request.State != StateFailed:
			breach("state %s with failure_reason %q", request.State, clip(reason))
		case reason == "":
			breach("empty failure_reason, which is to be left out")
		case !slices.Contains(job.accepts, reason) && !slices.Contains(alwaysAccepted, reason):
			breach("failure_reason %q is not among the job's failure_reasons", clip(reason))
		}
	} else if request.State == StateFailed {
		breach("state failed without failure_reason")
	}
	if request.ExitCode != nil {
		code := *request.ExitCode
		if code == 0 || request.State != StateFailed {
			breach("exit_code %d with state %s, which is to be left out", code, request.State)
		}
		if int(int32(code)) != code {
			breach("exit_code %d does not fit 32 bits", code)
		}
	}
	if request.Output != nil {
		if request.Output.Size != nil && *request.Output.Size == 0 {
			breach("output.bytesize 0, which is to be left out")
		}
		if sum := request.Output.Checksum; sum != nil && (request.Checksum == nil || *request.Checksum != *sum) {
			breach("checksum is not a copy of output.checksum")
		}
	}
}

func (j *Job) noteUpdate(request updateRequest, status int) {
	if len(j.updates) >= maxRecords {
		return
	}
	update := Update{Time: time.Now(), State: request.State, Status: status}
	if request.FailureReason != nil {
		update.FailureReason = *request.FailureReason
	}
	if request.ExitCode != nil {
		update.ExitCode = *request.ExitCode
	}
	if request.Output != nil && request.Output.Checksum != nil {
		update.Checksum = *request.Output.Checksum
	}
	if request.Output != nil && request.Output.Size != nil {
		update.Size = *request.Output.Size
	}
	j.updates = append(j.updates, update)
}
