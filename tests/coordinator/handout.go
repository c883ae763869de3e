package coordinator

import (
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// bumpQueue makes every queue version given out so far old and wakes the requests that are held. The caller holds c.mu.
func (c *Coordinator) bumpQueue() {
	c.queueVersion++
	close(c.queueChanged)
	c.queueChanged = make(chan struct{})
}

// version is the queue version in the opaque form that clients see. The caller holds c.mu.
func (c *Coordinator) version() string {
	return c.epoch + "-" + strconv.FormatInt(c.queueVersion, 16)
}

// unqueue needs c.mu.
func (c *Coordinator) unqueue(job *Job) {
	c.queue = slices.DeleteFunc(c.queue, func(other *Job) bool { return other == job })
}

const lastUpdateHeader = "X-GitLab-Last-Update"

// commitWatchIdle is how long the watch sleeps while no confirmation is due.
const commitWatchIdle = time.Hour

func (c *Coordinator) requestJob(x *exchange) {
	var request struct {
		Info       json.RawMessage `json:"info"`
		Token      string          `json:"token"`
		SystemID   string          `json:"system_id"`
		LastUpdate string          `json:"last_update"`
		Session    Session         `json:"session"`
	}
	if !c.decode(x, &request) {
		return
	}
	c.mu.Lock()
	info := c.checkInfo(x, request.Info)
	known := c.identify(x, request.Token)
	if known == nil {
		c.mu.Unlock()
		return
	}
	met := c.meet(x, known, request.SystemID, info)
	c.checkEcho(met, request.LastUpdate)
	if request.LastUpdate == c.version() && !c.hold(x, request.LastUpdate) {
		c.answerNoJob(x, met)
		c.mu.Unlock()
		return
	}
	job := c.pick(known)
	if job == nil || x.r.Context().Err() != nil {
		c.answerNoJob(x, met)
		c.mu.Unlock()
		return
	}
	// The version told is the one before this job left the queue: what waits behind it must still be asked for.
	x.w.Header().Set(lastUpdateHeader, c.issue(met, x.w.lost))
	handedOut := c.assign(x, job, known, info, request.SystemID, request.Session)
	c.bumpQueue()
	c.mu.Unlock()

	payload := c.payload(handedOut)
	c.mu.Lock()
	job.expect(payload)
	c.mu.Unlock()
	reply(x.w, http.StatusCreated, payload)
}

// hold waits for the queue to change from version. It reports whether it did. The caller holds c.mu, which is released
// while waiting.
func (c *Coordinator) hold(x *exchange, version string) bool {
	if c.cfg.LongPoll == 0 {
		return false
	}
	timer := time.NewTimer(c.cfg.LongPoll)
	defer timer.Stop()
	for version == c.version() {
		changed := c.queueChanged
		c.mu.Unlock()
		ended := false
		select {
		case <-changed:
		case <-timer.C:
			ended = true
		case <-x.r.Context().Done():
			ended = true
		}
		c.mu.Lock()
		if ended {
			return false
		}
	}
	return true
}

func (c *Coordinator) answerNoJob(x *exchange, met *manager) {
	x.w.Header().Set(lastUpdateHeader, c.issue(met, x.w.lost))
	x.w.WriteHeader(http.StatusNoContent)
}

// issue notes that the manager is told the current version, unless the answer is going to be lost.
func (c *Coordinator) issue(met *manager, lost bool) string {
	version := c.version()
	if !lost && (len(met.issued) == 0 || met.issued[len(met.issued)-1] != version) {
		met.issued = append(met.issued, version)
		met.issued = met.issued[max(0, len(met.issued)-maxIssued):]
	}
	return version
}

// checkEcho notes a manager that makes versions up or never echoes them.
func (c *Coordinator) checkEcho(met *manager, echoed string) {
	if echoed == "" {
		if len(met.issued) == 0 {
			return
		}
		if met.silent++; met.silent == maxSilent+1 {
			c.violate(RuleLastUpdate, 0, "%s sent %d job requests without last_update", met.SystemID, met.silent)
		}
		return
	}
	met.silent = 0
	if !slices.Contains(met.issued, echoed) {
		c.violate(RuleLastUpdate, 0, "last_update %q was not given to %s lately", clip(echoed), met.SystemID)
	}
}

// pick finds the job that has waited longest among those the runner may take.
func (c *Coordinator) pick(known *runner) *Job {
	if known.Paused {
		return nil
	}
	for _, job := range c.queue {
		if len(job.spec.Tags) == 0 {
			if known.RunUntagged {
				return job
			}
			continue
		}
		missing := func(tag string) bool { return !slices.Contains(known.Tags, tag) }
		if !slices.ContainsFunc(job.spec.Tags, missing) {
			return job
		}
	}
	return nil
}

// assign takes the job out of the queue for a runner. The caller holds c.mu.
func (c *Coordinator) assign(x *exchange, job *Job, known *runner, info Info, systemID string, session Session) offer {
	waiting := len(c.queue)
	c.unqueue(job)
	now := time.Now()
	if job.token != "" {
		job.oldTokens = append(job.oldTokens, job.token)
	}
	job.token = "glcbt-64_" + randomText(20)
	job.assigned, job.graceful = true, info.Features["cancel_gracefully"]
	job.excused.lostHandout = x.w.lost
	job.times.HandedOut = now
	job.assignments = append(job.assignments, Assignment{
		Time: now, RunnerID: known.ID, SystemID: systemID, Info: info, Session: session,
	})
	if info.Features["two_phase_job_commit"] {
		job.deadline = now.Add(c.cfg.CommitTimeout)
		c.wakeWatch(job.deadline)
		job.notify()
		c.publish(Event{Kind: EventHandedOut, Job: job, State: job.state})
	} else {
		job.times.Running = now
		job.setState(StateRunning)
	}
	handedOut := offer{
		job: job, token: job.token, runner: known.Runner, waited: now.Sub(job.times.Pending), queueSize: waiting,
		dependencies: []map[string]any{},
	}
	for _, dependency := range job.spec.Dependencies {
		entry := map[string]any{"id": dependency.id, "name": dependency.spec.Name, "token": dependency.token}
		if archive := dependency.artifact(archiveType); archive != nil {
			entry["artifacts_file"] = map[string]any{"filename": archive.Filename, "size": archive.Size}
		}
		handedOut.dependencies = append(handedOut.dependencies, entry)
	}
	return handedOut
}

// declaredArtifact is one upload that the payload allows.
type declaredArtifact struct {
	Type     string `json:"artifact_type"`
	Format   string `json:"artifact_format"`
	ExpireIn string `json:"expire_in"`
}

// expect remembers what the payload, as it was sent, asks the runner to do. The caller holds c.mu.
func (j *Job) expect(payload map[string]any) {
	var sent struct {
		Artifacts []declaredArtifact `json:"artifacts"`
		Features  struct {
			FailureReasons []string `json:"failure_reasons"`
		} `json:"features"`
	}
	// A payload that a test has broken on purpose promises nothing.
	if encoded, err := json.Marshal(payload); err != nil || json.Unmarshal(encoded, &sent) != nil {
		return
	}
	j.accepts = sent.Features.FailureReasons
	j.declared = j.declared[:0]
	for _, declared := range sent.Artifacts {
		declared.Type = cmp.Or(declared.Type, archiveType)
		declared.Format = cmp.Or(declared.Format, formatZip)
		j.declared = append(j.declared, declared)
	}
}

// wakeWatch makes watchCommits look again if it sleeps beyond deadline. The caller holds c.mu.
func (c *Coordinator) wakeWatch(deadline time.Time) {
	if !deadline.Before(c.commitsDue) {
		return
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// watchCommits returns jobs to the queue that were handed out and not confirmed in time. It ends with Close.
func (c *Coordinator) watchCommits() {
	timer := time.NewTimer(commitWatchIdle)
	defer timer.Stop()
	for {
		timer.Reset(c.requeueOverdue())
		select {
		case <-timer.C:
		case <-c.wake:
		case <-c.ctx.Done():
			return
		}
	}
}

// requeueOverdue returns how long it is until the next job is due.
func (c *Coordinator) requeueOverdue() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := commitWatchIdle
	for _, job := range c.jobOrder {
		if !job.assigned || job.state != StatePending {
			continue
		}
		left := time.Until(job.deadline)
		if left > 0 {
			next = min(next, left)
			continue
		}
		if !job.excused.lostHandout {
			c.violate(RuleCommitTimeout, job.id, "not confirmed within %v of being handed out", c.cfg.CommitTimeout)
		}
		job.assigned = false
		job.oldTokens = append(job.oldTokens, job.token)
		job.token = ""
		c.queue = append(c.queue, job)
		c.bumpQueue()
		job.notify()
		c.publish(Event{Kind: EventRequeued, Job: job, State: job.state})
	}
	c.commitsDue = time.Now().Add(next)
	return next
}
