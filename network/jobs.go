package network

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// Session is where a user's terminal reaches a job. Certificate is PEM.
type Session struct {
	URL           string `json:"url,omitempty"`
	Certificate   string `json:"certificate,omitempty"`
	Authorization string `json:"authorization,omitempty"`
}

// JobResult is the outcome of RequestJob.
type JobResult struct {
	// Job is nil if there is none.
	Job *spec.Job
	// TLS is what the job needs to speak to the server.
	TLS TLSData
	// Healthy is false if the runner's configuration is at fault. A server that cannot be reached or
	// that is in trouble leaves the runner healthy.
	Healthy bool
	// Retried says that the server pushed back: the next requests had better be fewer.
	Retried bool
	// CorrelationID finds the request in the server's logs.
	CorrelationID string
	// Err is why there is no job, nil if there simply is none. It wraps ErrForbidden, ErrClient or
	// ErrUnavailable where that is the reason. It was logged.
	Err error
}

// RequestJob asks for a job for a runner entry. The server may hold the request for a minute or more
// until there is one; it ends with ctx. A payload that cannot be decoded is reported to the server as
// a failed job, since it would be handed out for ever. session may be nil.
func (c *Client) RequestJob(ctx context.Context, runner *config.Runner, info spec.RunnerVersion, session *Session) JobResult {
	cred := CredentialsOf(runner)
	in := struct {
		Info       spec.RunnerVersion `json:"info"`
		Token      string             `json:"token"`
		SystemID   string             `json:"system_id"`
		LastUpdate string             `json:"last_update,omitempty"`
		Session    *Session           `json:"session,omitempty"`
	}{Info: info, Token: runner.Token, SystemID: runner.SystemID, Session: session}
	if conn, err := c.connection(connectionKey{Credentials: cred}); err == nil {
		in.LastUpdate = conn.lastUpdateSeen()
	}
	r := runnerRequest(http.MethodPost, "jobs/request", runner.Token)
	r.endpoint, r.systemID = "request_job", runner.SystemID
	var payload []byte
	a := c.json(ctx, cred, r, in, http.StatusCreated, &payload)
	result := JobResult{Healthy: true, Retried: a.retried, CorrelationID: a.correlationID}
	log := c.runnerLog(runner.Token, a).WithField("runner_name", runner.Name)

	switch a.status {
	case http.StatusCreated:
		job, err := spec.Decode(payload)
		if err != nil {
			result.Err = fmt.Errorf("requesting a job: %w", err)
			log.WithError(result.Err).Error("Checking for jobs... failed")
			c.refuse(ctx, runner, info, payload)
			return result
		}
		result.Job = job
		_, material := a.conn.current()
		result.TLS = material.dataFor(a.tls)
		log.WithFields(logrus.Fields{"job": job.ID, "repo_url": cleanText(job.Git.RepoURL)}).
			Info("Checking for jobs... received")
		return result
	case http.StatusNoContent:
		log.Debug("Checking for jobs... no content")
		return result
	case http.StatusForbidden:
		result.Healthy = false
		result.Err = fmt.Errorf("requesting a job: %w: %w", ErrForbidden, a.err)
		log.WithError(a.err).Error("Checking for jobs... forbidden")
		return result
	case statusClientError:
		result.Healthy = false
		result.Err = fmt.Errorf("requesting a job: %w", a.err)
		log.WithError(a.err).Error("Checking for jobs... client error")
		return result
	case http.StatusServiceUnavailable:
		result.Err = fmt.Errorf("requesting a job: %w: %w", ErrUnavailable, a.err)
		log.WithError(a.err).Warn("Checking for jobs... failed: GitLab instance currently unavailable")
		return result
	}
	result.Err = fmt.Errorf("requesting a job: %w", a.err)
	if ctx.Err() != nil {
		log.WithError(context.Cause(ctx)).Debug("Checking for jobs... given up")
		return result
	}
	log.WithError(a.err).Warn("Checking for jobs... failed")
	return result
}

// refuse fails a job that cannot be decoded, if at least its id and token can be.
func (c *Client) refuse(ctx context.Context, runner *config.Runner, info spec.RunnerVersion, payload []byte) {
	var job struct {
		ID    int64  `json:"id"`
		Token string `json:"token"`
	}
	if json.Unmarshal(payload, &job) != nil || job.ID == 0 || job.Token == "" {
		return
	}
	c.UpdateJob(ctx, runner, JobRef{ID: job.ID, Token: job.Token},
		JobUpdate{Info: info, State: JobFailed, FailureReason: "runner_system_failure"})
}
