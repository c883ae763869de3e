package coordinator

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// PipelineSpec describes a pipeline.
type PipelineSpec struct {
	Project   string     // path of a repository added before; empty means the only one there is
	Ref       string     // branch or tag; empty means the repository's default branch
	Stages    []string   // in order; a job of one stage waits for all jobs of the stages before
	Variables []Variable // put before every job's own
}

// Pipeline is a set of jobs for one commit. Add jobs, then Start it.
type Pipeline struct {
	c         *Coordinator
	id        int64
	project   string
	projectID int64
	ref       string
	commit    commit
	stages    []string
	variables []Variable
	repo      *repository // nil for a project without one
	done      chan struct{}

	// Guarded by c.mu.
	standing bool // collects the jobs that were enqueued by themselves and never ends
	started  bool
	finished bool
	jobs     []*Job
	waiting  []*Job // still in state created
}

// NewPipeline prepares a pipeline without jobs. It fails when the project or the ref is unknown.
func (c *Coordinator) NewPipeline(spec PipelineSpec) (*Pipeline, error) {
	p, err := c.newPipeline(spec)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pipelines = append(c.pipelines, p)
	return p, nil
}

func (c *Coordinator) newPipeline(spec PipelineSpec) (*Pipeline, error) {
	repo, err := c.repository(spec.Project)
	if err != nil {
		return nil, err
	}
	p := &Pipeline{c: c, stages: slices.Clone(spec.Stages), variables: slices.Clone(spec.Variables), done: make(chan struct{})}
	c.mu.Lock()
	p.id = c.nextPipeline
	c.nextPipeline++
	c.mu.Unlock()
	if repo == nil {
		p.project, p.projectID, p.ref = emptyProject, emptyProjectID, "main"
		p.commit = commit{sha: zeroSHA, parent: zeroSHA, refType: refTypeBranch, defaultBranch: "main", time: time.Now().UTC().Format(time.RFC3339)}
		return p, nil
	}
	p.repo, p.project, p.projectID = repo, repo.path, repo.id
	if p.ref, p.commit, err = repo.resolve(c.ctx, spec.Ref); err != nil {
		return nil, err
	}
	if err := c.setPipelineRef(repo, p.refName(), p.commit.sha); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Pipeline) refName() string { return "refs/pipelines/" + strconv.FormatInt(p.id, 10) }

// refspecs is what GitLab tells the runner to fetch.
func (p *Pipeline) refspecs(depth int) []string {
	specs := []string{"+" + p.refName() + ":" + p.refName()}
	switch {
	case depth == 0:
		specs = append(specs, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
	case p.commit.refType == refTypeTag:
		specs = append(specs, "+refs/tags/"+p.ref+":refs/tags/"+p.ref)
	default:
		specs = append(specs, "+refs/heads/"+p.ref+":refs/remotes/origin/"+p.ref)
	}
	return specs
}

// ID is the pipeline's number.
func (p *Pipeline) ID() int64 { return p.id }

// Jobs lists the pipeline's jobs in the order they were added.
func (p *Pipeline) Jobs() []*Job {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return slices.Clone(p.jobs)
}

// Add puts a job into a pipeline that has not been started. Project and Ref of the spec are the pipeline's. It fails for
// a stage that the pipeline does not have.
func (p *Pipeline) Add(spec JobSpec) (*Job, error) {
	spec = spec.withDefaults()
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.started {
		return nil, fmt.Errorf("add job %q to pipeline %d: it has been started", spec.Name, p.id)
	}
	if !slices.Contains(p.stages, spec.Stage) {
		return nil, fmt.Errorf("add job %q to pipeline %d: it has no stage %q, only %q", spec.Name, p.id, spec.Stage, p.stages)
	}
	return p.add(spec), nil
}

// Start lets the jobs of the first stage be handed out. Starting twice changes nothing.
func (p *Pipeline) Start() {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.started = true
	p.c.advance(p)
}

// Cancel cancels all jobs that have not ended.
func (p *Pipeline) Cancel(graceful bool) {
	// From the last to the first, so that the end of one job does not let the next one start.
	for _, job := range slices.Backward(p.Jobs()) {
		job.Cancel(graceful)
	}
}

// Wait returns when every job of a started pipeline has ended, and fails with the cause of ctx when that ends first.
func (p *Pipeline) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for pipeline %d: %w", p.id, context.Cause(ctx))
	}
}

// State sums the jobs up: running until all have ended, then failed, canceled or success. A job that may fail does not
// count.
func (p *Pipeline) State() State {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return p.state()
}

func (p *Pipeline) state() State {
	if !p.started {
		return StateCreated
	}
	sum := StateSuccess
	for _, job := range p.jobs {
		switch {
		case !job.state.Final():
			return StateRunning
		case job.state == StateCanceled:
			sum = StateCanceled
		case job.state == StateFailed && !job.spec.AllowFailure && sum == StateSuccess:
			sum = StateFailed
		}
	}
	return sum
}

func (s JobSpec) withDefaults() JobSpec {
	if s.Name == "" {
		s.Name = "job"
	}
	if s.Stage == "" {
		s.Stage = "test"
	}
	return s
}

// Enqueue hands one job out by itself, as soon as its dependencies have succeeded. Jobs enqueued so share one pipeline
// per project and ref. It fails when the project or ref is unknown.
func (c *Coordinator) Enqueue(spec JobSpec) (*Job, error) {
	spec = spec.withDefaults()
	key := spec.Project + "\x00" + spec.Ref
	c.mu.Lock()
	p := c.standing[key]
	c.mu.Unlock()
	if p == nil {
		fresh, err := c.newPipeline(PipelineSpec{Project: spec.Project, Ref: spec.Ref})
		if err != nil {
			return nil, fmt.Errorf("enqueue job %q: %w", spec.Name, err)
		}
		c.mu.Lock()
		if p = c.standing[key]; p == nil {
			p = fresh
			p.standing, p.started = true, true
			c.standing[key] = p
			c.pipelines = append(c.pipelines, p)
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	job := p.add(spec)
	c.advance(p)
	return job, nil
}

// Jobs lists all jobs in the order they were added.
func (c *Coordinator) Jobs() []*Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.jobOrder)
}

// add needs c.mu.
func (p *Pipeline) add(spec JobSpec) *Job {
	c := p.c
	job := &Job{
		c: c, id: c.nextJob, spec: spec, pipeline: p, state: StateCreated,
		done: make(chan struct{}), changed: make(chan struct{}), notBefore: map[Endpoint]time.Time{},
		times: Times{Enqueued: time.Now()},
	}
	c.nextJob++
	c.jobs[job.id] = job
	c.jobOrder = append(c.jobOrder, job)
	p.jobs = append(p.jobs, job)
	p.waiting = append(p.waiting, job)
	return job
}

// advance queues the jobs of p whose turn has come, skips those whose turn can never come, and finishes the pipeline
// after its last job. The caller holds c.mu.
func (c *Coordinator) advance(p *Pipeline) {
	if !p.started || p.finished {
		return
	}
	for moved := true; moved; {
		moved = false
		for _, job := range slices.Clone(p.waiting) {
			if job.state != StateCreated {
				p.unwait(job)
				continue
			}
			ready, doomed := p.turn(job)
			switch {
			case doomed:
				p.unwait(job)
				// What the skipped job held up is looked at in the next round.
				moved = true
				job.setState(StateSkipped)
			case ready:
				p.unwait(job)
				job.times.Pending = time.Now()
				job.setState(StatePending)
				c.queue = append(c.queue, job)
				c.bumpQueue()
			}
		}
	}
	if !p.standing && p.state() != StateRunning {
		p.finished = true
		close(p.done)
		c.publish(Event{Kind: EventPipelineFinished, Pipeline: p, State: p.state()})
	}
}

func (p *Pipeline) unwait(job *Job) {
	p.waiting = slices.DeleteFunc(p.waiting, func(other *Job) bool { return other == job })
}

// turn tells whether a job may start now, or never will.
func (p *Pipeline) turn(job *Job) (ready, doomed bool) {
	ready = true
	judge := func(before *Job) {
		switch {
		case !before.state.Final():
			ready = false
		case before.state == StateFailed && before.spec.AllowFailure:
		case before.state != StateSuccess:
			doomed = true
		}
	}
	for _, dependency := range job.spec.Dependencies {
		judge(dependency)
	}
	if p.standing {
		return ready && !doomed, doomed
	}
	own := slices.Index(p.stages, job.spec.Stage)
	for _, other := range p.jobs {
		if slices.Index(p.stages, other.spec.Stage) < own {
			judge(other)
		}
	}
	// A stage is judged when all jobs before it have ended, as GitLab does.
	return ready && !doomed, ready && doomed
}

// waitsFor reports whether a job of p depends on one of another pipeline.
func (p *Pipeline) waitsFor(job *Job) bool {
	return slices.ContainsFunc(p.waiting, func(waiting *Job) bool { return slices.Contains(waiting.spec.Dependencies, job) })
}
