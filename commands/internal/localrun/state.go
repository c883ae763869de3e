package localrun

import (
	"slices"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/pipeline"
)

// State is what became of a job.
type State string

// The states of jobs. All but the first two are final.
const (
	Waiting  State = "waiting"
	Running  State = "running"
	Success  State = "success"
	Failed   State = "failed"
	Allowed  State = "failed (allowed)"
	Canceled State = "canceled"
	Skipped  State = "skipped"
	// ManualJob is a job that nobody started.
	ManualJob State = "manual"
	// LeftOut is a job that cannot be run here.
	LeftOut State = "left out"
)

func (s State) final() bool { return s != Waiting && s != Running }

func (s State) colour() string {
	switch s {
	case Success:
		return green
	case Failed, Canceled:
		return red
	case Allowed, LeftOut:
		return yellow
	default:
		return grey
	}
}

// Outcome is what became of one job.
type Outcome struct {
	Job      *pipeline.Job
	State    State
	Duration time.Duration
	// Note says why, for people.
	Note string
}

// schedule decides when which job runs. It is not safe for concurrent use.
type schedule struct {
	jobs   []*pipeline.Job
	stages []string
	states map[*pipeline.Job]State
	// alone says that jobs were asked for by name: they wait for nothing that does not run, and manual ones
	// run.
	alone bool
}

func newSchedule(stages []string, jobs []*pipeline.Job, alone bool) *schedule {
	p := &schedule{jobs: jobs, stages: stages, states: map[*pipeline.Job]State{}, alone: alone}
	for _, job := range jobs {
		p.states[job] = Waiting
	}
	return p
}

// before are the jobs that a job waits for.
func (p *schedule) before(job *pipeline.Job) []*pipeline.Job {
	var out []*pipeline.Job
	if job.Staged {
		own := slices.Index(p.stages, job.Stage)
		for _, other := range p.jobs {
			if slices.Index(p.stages, other.Stage) < own {
				out = append(out, other)
			}
		}
		return out
	}
	for _, need := range job.Needs {
		if _, runs := p.states[need.Job]; runs && need.Order {
			out = append(out, need.Job)
		}
	}
	return out
}

// next settles every job that will not run, and returns those that are to run now.
func (p *schedule) next() []*pipeline.Job {
	var ready []*pipeline.Job
	for moved := true; moved; {
		moved = false
		for _, job := range p.jobs {
			if p.states[job] != Waiting {
				continue
			}
			state := p.turn(job)
			if state == Waiting {
				continue
			}
			p.states[job] = state
			if state == Running {
				ready = append(ready, job)
				continue
			}
			moved = true
		}
	}
	return ready
}

// turn is the state that a waiting job gets now.
func (p *schedule) turn(job *pipeline.Job) State {
	failed, blocked := false, false
	for _, other := range p.before(job) {
		state := p.states[other]
		switch {
		case !state.final():
			return Waiting
		case state == Failed, state == Canceled:
			failed = true
		case state == ManualJob && (!job.Staged || !other.AllowFailure):
			blocked = true
		case state == Skipped && (!job.Staged || other.When == pipeline.OnSuccess):
			blocked = true
		case state == LeftOut && !job.Staged:
			blocked = true
		}
	}
	good := !failed && !blocked
	switch job.When {
	case pipeline.Always:
		return Running
	case pipeline.OnFailure:
		if failed {
			return Running
		}
		return Skipped
	case pipeline.Manual:
		if !p.alone {
			if good {
				return ManualJob
			}
			return Skipped
		}
	}
	if good {
		return Running
	}
	return Skipped
}

// WithNeeds are jobs with everything that they need, in the order of the pipeline.
func WithNeeds(p *pipeline.Pipeline, jobs []*pipeline.Job) []*pipeline.Job {
	wanted := map[*pipeline.Job]bool{}
	var want func(job *pipeline.Job)
	want = func(job *pipeline.Job) {
		if wanted[job] {
			return
		}
		wanted[job] = true
		for _, need := range job.Needs {
			want(need.Job)
		}
	}
	for _, job := range jobs {
		want(job)
	}
	return slices.DeleteFunc(slices.Clone(p.Jobs), func(job *pipeline.Job) bool { return !wanted[job] })
}
