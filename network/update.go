package network

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

const (
	// updateTimeout bounds one attempt to report on a job, so that a connection that was cut silently
	// does not hide a cancellation.
	updateTimeout = 2 * time.Minute

	maxUpdateInterval = 15 * time.Minute
)

// JobRef is a job and its token.
type JobRef struct {
	ID    int64
	Token string
}

// JobState is the state of a job as it is reported.
type JobState string

// The states that are reported. A cancelled job is reported as failed.
const (
	JobRunning JobState = "running"
	JobSuccess JobState = "success"
	JobFailed  JobState = "failed"
)

// JobUpdate is one report. Zero values of all but Info and State are left out.
type JobUpdate struct {
	Info          spec.RunnerVersion
	State         JobState
	FailureReason string
	// Checksum and Size are those of the whole log so far.
	Checksum string
	Size     int64
	ExitCode int
}

// UpdateState is the server's verdict on a report.
type UpdateState int

// The verdicts on a report.
const (
	UpdateSucceeded UpdateState = iota
	// UpdateAccepted: the server has it and is not done with it; ask again.
	UpdateAccepted
	// UpdateLogMismatch: the server's log is not the one described. Send it again.
	UpdateLogMismatch
	// UpdateAborted: the job is over for the server. Stop it.
	UpdateAborted
	UpdateFailed
)

// UpdateResult is the outcome of UpdateJob.
type UpdateResult struct {
	State UpdateState
	// CancelRequested asks to end the job early, but in order.
	CancelRequested bool
	// Interval is how often the server wants to hear of the job, 0 if it did not say.
	Interval time.Duration
}

// UpdateJob reports the state of a job.
func (c *Client) UpdateJob(ctx context.Context, runner *config.Runner, job JobRef, update JobUpdate) UpdateResult {
	type output struct {
		Checksum string `json:"checksum,omitempty"`
		Size     int64  `json:"bytesize,omitempty"`
	}
	in := struct {
		Info          spec.RunnerVersion `json:"info"`
		Token         string             `json:"token"`
		State         JobState           `json:"state"`
		FailureReason string             `json:"failure_reason,omitempty"`
		Checksum      string             `json:"checksum,omitempty"`
		Output        output             `json:"output"`
		ExitCode      int32              `json:"exit_code,omitempty"`
	}{
		Info: update.Info, Token: job.Token, State: update.State, FailureReason: update.FailureReason,
		Checksum: update.Checksum, Output: output{update.Checksum, update.Size}, ExitCode: int32(update.ExitCode),
	}
	a := c.json(ctx, CredentialsOf(runner), request{
		method: http.MethodPut, path: fmt.Sprintf("jobs/%d", job.ID),
		header:  http.Header{headerJobToken: {job.Token}},
		timeout: updateTimeout, endpoint: "update_job", systemID: runner.SystemID,
	}, in, http.StatusOK, nil)
	result := UpdateResult{
		State:           updateState(a),
		CancelRequested: a.header.Get(headerJobStatus) == "canceling",
		Interval:        updateInterval(a.header),
	}
	log := c.jobLog(runner, job, a).WithFields(logrus.Fields{"state": update.State, "checksum": update.Checksum, "bytesize": update.Size})
	const message = "Submitting job to coordinator... "
	switch result.State {
	case UpdateAborted:
		if a.status == http.StatusOK && update.State != JobRunning {
			// The job is over for the server because this update says so.
			log.Info(message + "ok")
			break
		}
		log.WithError(a.err).Warn(message + "aborted")
	case UpdateSucceeded:
		if update.State == JobRunning {
			log.Debug("Updating job... ok")
		} else {
			log.Info(message + "ok")
		}
	case UpdateAccepted:
		log.Info(message + "accepted, but not yet completed")
	case UpdateLogMismatch:
		log.WithError(a.err).Warn(message + "job log validation failed")
	default:
		log.WithError(a.err).Warn(message + "failed")
	}
	return result
}

func (c *Client) jobLog(runner *config.Runner, job JobRef, a *answer) logrus.FieldLogger {
	log := c.runnerLog(runner.Token, a).WithFields(logrus.Fields{"job": job.ID, "code": a.status})
	if status := a.header.Get(headerJobStatus); status != "" {
		log = log.WithField("job-status", status)
	}
	return log
}

func updateState(a *answer) UpdateState {
	switch {
	case jobIsOver(a):
		return UpdateAborted
	case a.status == http.StatusOK:
		return UpdateSucceeded
	case a.status == http.StatusAccepted:
		return UpdateAccepted
	case a.status == http.StatusPreconditionFailed:
		return UpdateLogMismatch
	case a.status == http.StatusNotFound, a.status == statusClientError:
		return UpdateAborted
	default:
		return UpdateFailed
	}
}

func jobIsOver(a *answer) bool {
	status := a.header.Get(headerJobStatus)
	return status == "canceled" || status == "failed" || a.status == http.StatusForbidden
}

func updateInterval(header http.Header) time.Duration {
	seconds, err := strconv.Atoi(header.Get(headerInterval))
	if err != nil || seconds <= 0 {
		return 0
	}
	return time.Duration(min(seconds, int(maxUpdateInterval/time.Second))) * time.Second
}

// PatchState is the server's verdict on a piece of a log.
type PatchState int

// The verdicts on a piece of a log.
const (
	PatchSucceeded PatchState = iota
	// PatchRangeMismatch: the server has another amount of the log: see PatchResult.Offset.
	PatchRangeMismatch
	// PatchAborted: the job is over for the server. Stop it.
	PatchAborted
	// PatchNotFound: the server does not take the log, and the job may go on.
	PatchNotFound
	PatchFailed
)

// PatchResult is the outcome of PatchTrace.
type PatchResult struct {
	State PatchState
	// Offset is where the next piece begins.
	Offset          int64
	CancelRequested bool
	// Interval is as in UpdateResult.
	Interval time.Duration
}

// PatchTrace sends the piece of a log that begins at offset. debug says that the log may hold secrets,
// so that fewer people may see it. An empty piece is not sent and succeeds.
func (c *Client) PatchTrace(ctx context.Context, runner *config.Runner, job JobRef, content []byte, offset int64, debug bool) PatchResult {
	if len(content) == 0 {
		return PatchResult{Offset: offset}
	}
	end := offset + int64(len(content))
	sent := fmt.Sprintf("%d-%d", offset, end-1)
	r := request{
		method: http.MethodPatch, path: fmt.Sprintf("jobs/%d/trace", job.ID),
		query:   url.Values{"debug_trace": {strconv.FormatBool(debug)}},
		header:  http.Header{"Content-Type": {"text/plain"}, "Content-Range": {sent}, headerJobToken: {job.Token}},
		timeout: updateTimeout, endpoint: "patch_trace", systemID: runner.SystemID,
	}
	r.setBody(content)
	a := c.stream(ctx, CredentialsOf(runner), r)
	defer a.close()

	result := PatchResult{
		Offset:          offset,
		CancelRequested: a.header.Get(headerJobStatus) == "canceling",
		Interval:        updateInterval(a.header),
	}
	log := c.jobLog(runner, job, a).WithFields(logrus.Fields{"sent-log": sent, "update-interval": result.Interval})
	const message = "Appending trace to coordinator... "
	switch {
	case jobIsOver(a):
		result.State = PatchAborted
		log.WithError(a.problem()).Warn(message + "aborted")
	case a.status == http.StatusAccepted:
		result.State, result.Offset = PatchSucceeded, end
		log.Info(message + "ok")
	case a.status == http.StatusNotFound:
		result.State = PatchNotFound
		log.WithError(a.problem()).Warn(message + "not-found")
	case a.status == http.StatusRequestedRangeNotSatisfiable:
		result.State, result.Offset = PatchRangeMismatch, storedSize(a.header.Get("Range"))
		log.WithField("job-log", a.header.Get("Range")).Warn(message + "range mismatch")
	default:
		result.State = PatchFailed
		log.WithError(a.problem()).Warn(message + "failed")
	}
	return result
}

// storedSize reads how much of a log the server has from "0-<size>"; anything else is nothing.
func storedSize(rangeHeader string) int64 {
	_, last, found := strings.Cut(rangeHeader, "-")
	if !found {
		return 0
	}
	size, err := strconv.ParseInt(last, 10, 64)
	if err != nil || size < 0 {
		return 0
	}
	return size
}
