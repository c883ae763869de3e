package localrun

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/pipeline"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// Options say what to run, and on what.
type Options struct {
	Tree     *Tree
	Pipeline *pipeline.Pipeline
	// Jobs are those to run. Alone says that they were asked for by name.
	Jobs  []*pipeline.Job
	Alone bool
	// LeaveOut leaves jobs out that have something unsupported; without it they are an error.
	LeaveOut bool
	// Concurrency is how many jobs run at once.
	Concurrency int
	// Timeout is that of jobs that name none.
	Timeout time.Duration
	// Overrides win over all other variables.
	Overrides variables.List

	Provider common.ExecutorProvider
	// Runner is the entry whose settings jobs get.
	Runner *config.Runner
	// RemoteCache is nil without a distributed cache.
	RemoteCache common.RemoteCache

	// Scratch is a directory for artifacts.
	Scratch  string
	Console  *Console
	Log      logrus.FieldLogger
	Version  version.Info
	Hostname string
	// Started is when the run began: the number of its pipeline.
	Started time.Time
}

// run is one run of a pipeline.
type run struct {
	Options
	server *server
	token  string
	port   int
	width  int
	index  map[*pipeline.Job]int
	ids    idSource

	mu sync.Mutex
	// done are the ids under which jobs ended, with their artifacts.
	done map[*pipeline.Job]int64
}

// ErrJobsFailed: a job that must succeed did not.
var ErrJobsFailed = errors.New("a job failed that must not")

const (
	// firstPort and ports are where the helpers of jobs see the server, on their own loopback.
	firstPort = 20_000
	ports     = 20_000
	// slotPause is the pause between questions for a free slot.
	slotPause = 250 * time.Millisecond
)

// Run runs the jobs and returns what became of each. It returns when everything that the jobs made is
// removed. When ctx ends, running jobs are cancelled. The error is about the run as a whole: a job that
// failed is in its outcome, and in ErrJobsFailed.
func Run(ctx context.Context, o Options) ([]Outcome, error) {
	if err := refuseUnsupported(o); err != nil {
		return nil, err
	}
	token := "exec-" + rand.Text()
	dir := filepath.Join(o.Scratch, "artifacts")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making room for artifacts: %w", err)
	}
	r := &run{
		Options: o, token: token, server: newServer(o.Tree, dir, token, o.Log),
		port: firstPort + mathrand.N(ports), index: map[*pipeline.Job]int{}, done: map[*pipeline.Job]int64{},
		ids: idSource{free: map[int]bool{}},
	}
	for i, job := range o.Jobs {
		r.index[job] = i
		if len(o.Jobs) > 1 && o.Concurrency > 1 {
			r.width = max(r.width, utf8.RuneCountInString(job.Name))
		}
	}
	outcomes := r.all(ctx)
	return outcomes, verdict(outcomes)
}

func refuseUnsupported(o Options) error {
	var found []string
	for _, job := range o.Jobs {
		if len(job.Unsupported) > 0 {
			found = append(found, fmt.Sprintf("%s uses %s", job.Name, strings.Join(job.Unsupported, ", ")))
		}
	}
	if len(found) == 0 || o.LeaveOut {
		return nil
	}
	return fmt.Errorf("not supported without a GitLab: %s; --skip-unsupported leaves such jobs out", strings.Join(found, "; "))
}

func verdict(outcomes []Outcome) error {
	for _, o := range outcomes {
		if o.State == Failed || o.State == Canceled {
			return ErrJobsFailed
		}
	}
	return nil
}

// ended is a job whose run is over.
type ended struct {
	job     *pipeline.Job
	outcome Outcome
}

// all runs the jobs, each when its turn has come.
func (r *run) all(ctx context.Context) []Outcome {
	order := newSchedule(r.Pipeline.Stages, r.Jobs, r.Alone)
	outcomes := map[*pipeline.Job]Outcome{}
	for _, job := range r.Jobs {
		if len(job.Unsupported) > 0 {
			order.states[job] = LeftOut
			outcomes[job] = Outcome{Note: "uses " + strings.Join(job.Unsupported, ", ")}
		}
	}
	results := make(chan ended)
	var queue []*pipeline.Job
	running := 0
	for {
		if ctx.Err() == nil {
			queue = append(queue, order.next()...)
		}
		for len(queue) > 0 && running < r.Concurrency && ctx.Err() == nil {
			job := queue[0]
			queue = queue[1:]
			running++
			go func() { results <- ended{job, r.one(ctx, job)} }()
		}
		if running == 0 {
			break
		}
		result := <-results
		running--
		order.states[result.job] = result.outcome.State
		outcomes[result.job] = result.outcome
	}
	out := make([]Outcome, 0, len(r.Jobs))
	for _, job := range r.Jobs {
		o := outcomes[job]
		o.Job, o.State = job, order.states[job]
		switch {
		case !o.State.final():
			o.State, o.Note = Canceled, "not started"
		case o.State == ManualJob:
			o.Note = "start it by its name"
		case o.State == Skipped && job.When == pipeline.OnFailure:
			o.Note = "nothing failed"
		case o.State == Skipped:
			o.Note = "something before it did not succeed"
		}
		out = append(out, o)
	}
	return out
}

// one runs a job, again if it is to be retried.
func (r *run) one(ctx context.Context, job *pipeline.Job) Outcome {
	log := r.Console.job(job.Name, r.index[job], r.width)
	defer log.end()
	started := time.Now()
	for attempt := 0; ; attempt++ {
		id := r.ids.take()
		result, err := r.try(ctx, job, id, r.jobID(job, attempt), log)
		r.ids.giveBack(id)
		outcome := Outcome{Duration: time.Since(started)}
		switch {
		case err != nil:
			outcome.State, outcome.Note = Failed, err.Error()
			if ctx.Err() != nil {
				outcome.State, outcome.Note = Canceled, ""
			}
			return outcome
		case result.State == common.Success:
			outcome.State = Success
			return outcome
		case result.State == common.Canceled || ctx.Err() != nil:
			outcome.State = Canceled
			return outcome
		}
		log.end()
		if attempt < job.Retry && retries(job, result) {
			r.Console.Say("%s failed (%s): attempt %d of %d", job.Name, result.Reason, attempt+2, job.Retry+1)
			continue
		}
		outcome.State, outcome.Note = Failed, note(result)
		if job.AllowFailure || result.Reason == common.ScriptFailure && slices.Contains(job.AllowCodes, result.ExitCode) {
			outcome.State = Allowed
		}
		return outcome
	}
}

func note(result common.Result) string {
	if result.Reason == common.ScriptFailure && result.ExitCode != 0 {
		return fmt.Sprintf("exit code %d", result.ExitCode)
	}
	return strings.ReplaceAll(string(result.Reason), "_", " ")
}

// retries says whether the file wants a job tried again that ended so.
func retries(job *pipeline.Job, result common.Result) bool {
	if len(job.RetryWhen) == 0 && len(job.RetryCodes) == 0 {
		return true
	}
	if result.Reason == common.ScriptFailure && slices.Contains(job.RetryCodes, result.ExitCode) {
		return true
	}
	return slices.ContainsFunc(job.RetryWhen, func(when string) bool {
		return when == "always" || when == string(result.Reason) ||
			when == "stuck_or_timeout_failure" && result.Reason == common.JobExecutionTimeout
	})
}

// try runs a job once.
func (r *run) try(ctx context.Context, job *pipeline.Job, concurrent int, id int64, log *jobLog) (common.Result, error) {
	slot, err := r.slot(ctx)
	if err != nil {
		return common.Result{}, err
	}
	defer slot.Release()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port+concurrent))
	base := &url.URL{Scheme: "http", Host: address}
	runner := *r.Runner
	runner.URL, runner.CloneURL = base.String(), ""
	payload, err := r.payload(job, id, base)
	if err != nil {
		return common.Result{}, err
	}
	build := common.NewBuild(common.BuildOptions{
		Job: payload, Runner: &runner,
		Slot:  linkedSlot{Slot: slot, server: r.server.handler(), address: address},
		Trace: trace{log}, Log: r.Log.WithField("job", job.Name),
		ConcurrentID: concurrent, ConcurrentProjectID: concurrent,
		Hostname: r.Hostname, Version: r.Version, Features: r.Provider.Features(), RemoteCache: r.RemoteCache,
	})
	result := build.Run(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[job] = id
	return result, nil
}

// slot waits for room for a job.
func (r *run) slot(ctx context.Context) (common.Slot, error) {
	for {
		slot, err := r.Provider.Acquire(ctx, r.Runner)
		if err == nil {
			return slot, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !errors.Is(err, common.ErrNoFreeExecutor) {
			return nil, fmt.Errorf("getting room for the job: %w", err)
		}
		r.Log.WithError(err).Debug("no room for a job")
		if err := pause.For(ctx, slotPause); err != nil {
			return nil, err
		}
	}
}

// trace takes a job's log. Nobody cancels a job but the context.
type trace struct{ *jobLog }

// OnCancel implements common.Trace.
func (trace) OnCancel(func()) {}

// OnAbort implements common.Trace.
func (trace) OnAbort(func()) {}

// jobsPerPipeline keeps the ids of pipelines apart.
const jobsPerPipeline = 10_000

func (r *run) jobID(job *pipeline.Job, attempt int) int64 {
	return r.Started.Unix()*jobsPerPipeline + int64((r.index[job]+1)*10+attempt)
}

// defaultDepth is how much of the history jobs get, as in GitLab.
const defaultDepth = 20

// payload is the job as GitLab would hand it out.
func (r *run) payload(job *pipeline.Job, id int64, base *url.URL) (*spec.Job, error) {
	tree := r.Tree
	list := tree.Predefined(r.Started)
	list = append(list, tree.serverVariables(base, r.token)...)
	show := func(key, value string) {
		list = append(list, spec.Variable{Key: key, Value: value, Public: true, Raw: true})
	}
	show("CI_JOB_ID", strconv.FormatInt(id, 10))
	show("CI_JOB_NAME", job.Name)
	show("CI_JOB_NAME_SLUG", slug(job.Name))
	show("CI_JOB_STAGE", job.Stage)
	show("CI_JOB_STARTED_AT", time.Now().UTC().Format(time.RFC3339))
	show("CI_JOB_MANUAL", strconv.FormatBool(job.When == pipeline.Manual))
	show("CI_RUNNER_DESCRIPTION", r.Runner.Name)
	list = append(list, job.Variables...)

	timeout := r.Timeout
	if job.Timeout > 0 {
		timeout = job.Timeout
	}
	repository := *base
	repository.Path = "/" + tree.Project + ".git"
	repository.User = url.UserPassword(gitUser, r.token)
	payload := &spec.Job{
		ID: id, Token: r.token, AllowGitFetch: true,
		Info: spec.JobInfo{
			Name: job.Name, Stage: job.Stage, PipelineID: r.Started.Unix(), ProjectID: tree.projectID(),
			ProjectName: filepath.Base(tree.Project), ProjectFullPath: tree.Project,
		},
		Git: spec.GitInfo{
			RepoURL: repository.String(), ObjectFormat: tree.ObjectFormat, Ref: tree.Ref, RefType: "branch",
			Sha: tree.Sha, BeforeSha: tree.Parent, Refspecs: tree.refspecs(), Depth: defaultDepth,
		},
		Runner: spec.RunnerInfo{Timeout: int(timeout.Seconds())},
		Steps:  job.Steps, Hooks: job.Hooks, Services: job.Services, Artifacts: job.Artifacts, Cache: job.Cache,
	}
	if tree.Tag {
		payload.Git.RefType = "tag"
	}
	if job.Image != nil {
		image := *job.Image
		payload.Image = &image
	}
	handedOn, err := r.dependencies(job, payload)
	if err != nil {
		return nil, err
	}
	payload.Variables = slices.Concat(list, handedOn, r.Overrides)
	if depth, err := strconv.Atoi(variables.List(payload.Variables).Get("GIT_DEPTH")); err == nil && depth >= 0 {
		payload.Git.Depth = depth
	}
	return payload, nil
}

// dependencies adds the artifacts of former jobs, and returns the variables that they hand on.
func (r *run) dependencies(job *pipeline.Job, payload *spec.Job) ([]spec.Variable, error) {
	r.mu.Lock()
	done := maps.Clone(r.done)
	r.mu.Unlock()
	var out []spec.Variable
	for _, need := range job.Needs {
		id, ran := done[need.Job]
		if !ran || !need.Artifacts {
			continue
		}
		handedOn, err := r.server.dotenv(id)
		if err != nil {
			return nil, fmt.Errorf("artifacts of %s: %w", need.Job.Name, err)
		}
		out = append(out, handedOn...)
		archive, ok := r.server.artifact(id, "archive")
		if !ok {
			continue
		}
		payload.Dependencies = append(payload.Dependencies, spec.Dependency{
			ID: id, Name: need.Job.Name, Token: r.token,
			ArtifactsFile: spec.ArtifactsFile{Filename: "artifacts.zip", Size: archive.size},
		})
	}
	return out, nil
}

// idSource gives out the lowest numbers that nobody has.
type idSource struct {
	mu   sync.Mutex
	free map[int]bool
	next int
}

func (s *idSource) take() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) > 0 {
		lowest := slices.Min(slices.Collect(maps.Keys(s.free)))
		delete(s.free, lowest)
		return lowest
	}
	s.next++
	return s.next - 1
}

func (s *idSource) giveBack(id int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free[id] = true
}
