package manager

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/session"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/secrets"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

// process makes one job request for an entry and runs the job that comes of it. ctx ends the asking,
// working ends the job. It returns why no job could be asked for, after it was told.
func (m *Manager) process(ctx, working context.Context, runner *config.Runner) error {
	if m.options.Allow != nil && !m.options.Allow() {
		return errNotAllowed
	}
	log := m.log.WithFields(logrus.Fields{"runner": runner.ShortToken(), "runner_name": runner.Name})
	provider, ok := m.options.Providers[runner.Executor]
	if !ok {
		log.Errorf("Executor %q is not known; marking Runner as unhealthy", runner.Executor)
		m.markHealth(runner, false)
		return errUnknownExecutor
	}
	if !m.requests.acquireJob(runner) {
		log.Debug("Failed to request job, runner limit met")
		return errRunnerLimit
	}
	defer m.requests.releaseJob(runner)

	users := m.openSession(provider)
	if users != nil {
		defer users.Close()
	}
	slot, result, err := m.request(ctx, runner, provider, users)
	if err != nil {
		m.tellFailure(log, runner, err)
		return err
	}
	if result.Job == nil {
		return nil
	}
	defer slot.Release()
	m.again(ctx, working, runner)
	m.runJob(working, runner, provider, slot, result, users)
	if m.options.JobEnded != nil {
		m.options.JobEnded()
	}
	return nil
}

// openSession makes a place where users of a job's terminal are let in, nil where there is none.
func (m *Manager) openSession(provider common.ExecutorProvider) *session.Session {
	if m.options.Sessions == nil || !provider.Features().Session {
		return nil
	}
	return m.options.Sessions.Open()
}

var (
	errNotAllowed      = errors.New("no further job is wanted")
	errUnknownExecutor = errors.New("the executor is not known")
	errRunnerLimit     = errors.New("the runner's limit is reached")
	errRequestLimit    = errors.New("'request_concurrency' already reached")
)

// request asks for a job, with room for it made before. Without a job the room is given back.
func (m *Manager) request(ctx context.Context, runner *config.Runner, provider common.ExecutorProvider, users *session.Session) (common.Slot, network.JobResult, error) {
	if !m.requests.acquireRequest(runner) {
		m.options.Metrics.requestExceeded(runner)
		return nil, network.JobResult{}, errRequestLimit
	}
	factor := gotNothing
	defer func() { m.requests.releaseRequest(runner, factor) }()

	slot, err := provider.Acquire(ctx, runner)
	if err != nil {
		return nil, network.JobResult{}, fmt.Errorf("failed to update executor: %w", err)
	}
	var where *network.Session
	if users != nil {
		where = users.Info()
	}
	result := m.options.Network.RequestJob(ctx, runner, m.info(runner, provider), where)
	m.markHealth(runner, result.Healthy)
	switch {
	case result.Retried:
		factor = pushedBack
	case result.Job != nil:
		factor = gotJob
	}
	if result.Job == nil {
		slot.Release()
		return nil, result, nil
	}
	return slot, result, nil
}

func (m *Manager) markHealth(runner *config.Runner, good bool) {
	m.health.mark(runner, good)
	if !good {
		m.options.Metrics.unhealthy(runner)
	}
}

func (m *Manager) tellFailure(log *logrus.Entry, runner *config.Runner, err error) {
	switch {
	case errors.Is(err, errRequestLimit):
		log.Debugf("Failed to request job: %v", err)
	case errors.Is(err, common.ErrNoFreeExecutor):
		m.options.Metrics.processingFailed(runner, failureNoFree)
		log.WithError(err).Debug("Failed to process runner")
	default:
		m.options.Metrics.processingFailed(runner, failureOther)
		log.WithError(err).Warning("Failed to process runner")
	}
}

// finalUpdateTimeout bounds the reporting of a job's outcome after the process was told to stop.
const finalUpdateTimeout = 30 * time.Second

// runJob runs a job from its commit to its final state.
func (m *Manager) runJob(ctx context.Context, runner *config.Runner, provider common.ExecutorProvider, slot common.Slot, result network.JobResult, users *session.Session) {
	job := result.Job
	log := m.log.WithFields(logrus.Fields{
		"job": job.ID, "project": job.Info.ProjectID, "runner": runner.ShortToken(), "runner_name": runner.Name,
		"correlation_id": result.CorrelationID,
	})
	if m.options.Secrets != nil {
		defer m.options.Secrets.Hold(secretsOf(job))()
	}
	id, projectID, giveBack := m.ids.take(runner.Identity(), job.Info.ProjectID)
	defer giveBack()

	// What the job says must reach the server even when the job itself is aborted.
	reporting := context.WithoutCancel(ctx)
	trace, err := m.options.Network.NewTrace(reporting, network.TraceOptions{
		Runner: runner, Info: m.info(runner, provider), Job: network.JobRef{ID: job.ID, Token: job.Token},
		Debug: common.DebugTrace(runner, job), DynamicForceInterval: common.DynamicTraceInterval(runner, job),
	})
	if err != nil {
		log.WithError(err).Error("The job was failed: its log cannot be kept")
		return
	}
	switch trace.Commit(reporting) {
	case network.CommitAborted:
		log.Warning("The job was given to somebody else, or is over: it is not run")
		trace.Discard()
		return
	case network.CommitCanceled:
		m.finish(ctx, log, trace, job.Features.FailureReasons, common.Result{State: common.Canceled, Reason: common.JobCanceled})
		return
	}

	cache, err := m.options.RemoteCache(runner)
	if err != nil {
		log.WithError(err).Error("The distributed cache cannot be used: the job goes on without it")
	}
	options := common.BuildOptions{
		Job: job, Runner: runner, Slot: slot, Trace: trace, Log: log,
		ConcurrentID: id, ConcurrentProjectID: projectID,
		Hostname: m.options.Hostname, Version: m.options.Version,
		TLSVariables: result.TLS.Variables(), CorrelationID: result.CorrelationID,
		Features: provider.Features(), RemoteCache: cache,
	}
	fetched := &secretStore{
		client: secrets.NewClient(fmt.Sprintf("%d-%d-%s", job.ID, job.Info.ProjectID, serverHost(runner.URL))), guard: m.options.Secrets,
	}
	defer fetched.release()
	options.Secrets = fetched
	if users != nil {
		options.Terminal, options.TerminalTimeout = users, m.sessionTimeout()
	}
	build := common.NewBuild(options)
	m.jobs.add(build, JobStatus{ID: job.ID, URL: build.URL(), Runner: runner})
	defer m.jobs.remove(build)
	m.options.Metrics.jobStarted(runner, job)
	outcome := build.Run(ctx)
	m.options.Metrics.jobEnded(runner, job, outcome)
	if m.options.Account != nil {
		m.options.Account(Account{Runner: runner, Job: job, URL: build.URL(), Result: outcome, Started: build.Status().Started, Finished: time.Now()})
	}
	m.finish(ctx, log, trace, job.Features.FailureReasons, outcome)
}

// serverHost is the host in the address of a GitLab.
func serverHost(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return parsed.Hostname()
}

// sessionTimeout is how long a user may stay in a job's container after its scripts.
func (m *Manager) sessionTimeout() time.Duration {
	if seconds := m.Config().SessionServer.SessionTimeout; seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	return config.DefaultSessionTimeout
}

// finish reports the outcome of a job.
func (m *Manager) finish(ctx context.Context, log *logrus.Entry, trace *network.Trace, known []string, r common.Result) {
	reporting := context.WithoutCancel(ctx)
	if ctx.Err() != nil {
		var stop context.CancelFunc
		reporting, stop = context.WithTimeout(reporting, finalUpdateTimeout)
		defer stop()
	}
	err := trace.Finish(reporting, network.Outcome{
		Success:  r.State == common.Success,
		Reason:   string(r.Reason.Supported(known)),
		ExitCode: r.ExitCode,
	})
	if err != nil {
		log.WithError(err).Error("The final state of the job did not reach GitLab")
	}
}
