package localrun

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/pipeline"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

// provider makes executors that do nothing but what their script says: "exit N", "wait" or anything.
type provider struct {
	mu       sync.Mutex
	busy     int
	most     int
	refusals int
	// codes are the exit codes of the next scripts of a job, by its name.
	codes map[string][]int
	jobs  []*spec.Job
	ready chan struct{}
}

func (p *provider) Name() string             { return "docker" }
func (p *provider) Features() spec.Features  { return spec.Features{} }
func (p *provider) DefaultShell() string     { return "bash" }
func (p *provider) Reload([]*config.Runner)  {}
func (p *provider) Shutdown(context.Context) {}
func (p *provider) Acquire(context.Context, *config.Runner) (common.Slot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusals > 0 {
		p.refusals--
		return nil, common.ErrNoFreeExecutor
	}
	p.busy++
	p.most = max(p.most, p.busy)
	return &fakeSlot{p}, nil
}

type fakeSlot struct{ p *provider }

func (s *fakeSlot) NewExecutor(job *common.Job) common.Executor {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.jobs = append(s.p.jobs, job.Spec)
	return &fakeExecutor{p: s.p, job: job, ready: make(chan struct{})}
}

func (s *fakeSlot) Renew(error) bool { return false }

func (s *fakeSlot) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

func (s *fakeSlot) Release() {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.busy--
}

type fakeExecutor struct {
	common.Executor
	p     *provider
	job   *common.Job
	ready chan struct{}
}

func (e *fakeExecutor) Connect(context.Context) (common.Machine, error) {
	return common.Machine{OS: "linux", Shell: "bash", BuildsDir: "/builds", CacheDir: "/cache"}, nil
}
func (e *fakeExecutor) Prepare(context.Context) error { return nil }
func (e *fakeExecutor) HelperReady() <-chan struct{}  { return e.ready }
func (e *fakeExecutor) Cleanup(context.Context) error { return nil }
func (e *fakeExecutor) Run(ctx context.Context, stage common.Stage) error {
	if stage.Where != common.InBuild || stage.Name == "after_script" {
		return nil
	}
	if strings.Contains(e.job.Spec.Steps[0].Script[0], "wait") {
		close(e.p.ready)
		<-ctx.Done()
		return context.Cause(ctx)
	}
	e.p.mu.Lock()
	defer e.p.mu.Unlock()
	name := e.job.Spec.Info.Name
	codes := e.p.codes[name]
	if len(codes) == 0 {
		return nil
	}
	e.p.codes[name] = codes[1:]
	if codes[0] == 0 {
		return nil
	}
	return common.ExitError(codes[0])
}

// options are those of a run of a pipeline's jobs on p.
func options(t *testing.T, text string, p *provider) (Options, *bytes.Buffer) {
	t.Helper()
	dir := newRepository(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, pipeline.DefaultFile), []byte(text), 0o644))
	tree := openTree(t, dir)
	compiled, err := pipeline.Compile(pipeline.Options{
		File: pipeline.DefaultFile, Read: tree.Read, Exists: tree.Exists, Predefined: tree.Predefined(time.Unix(1, 0)), Ref: tree.Ref,
	})
	require.NoError(t, err)
	log := logrus.New()
	log.SetOutput(io.Discard)
	var out bytes.Buffer
	return Options{
		Tree: tree, Pipeline: compiled, Jobs: compiled.Jobs, Concurrency: 2, Timeout: time.Hour, Provider: p,
		Runner: &config.Runner{Name: "exec", Token: "exec1", Docker: &config.Docker{}}, Scratch: t.TempDir(),
		Console: &Console{Out: &out}, Log: log, Started: time.Unix(1, 0),
	}, &out
}

// states are the outcomes as texts.
func states(outcomes []Outcome) map[string]string {
	out := map[string]string{}
	for _, o := range outcomes {
		out[o.Job.Name] = strings.TrimSpace(string(o.State) + " " + o.Note)
	}
	return out
}

func TestJobsAreRetriedAndAllowedToFail(t *testing.T) {
	p := &provider{refusals: 1, codes: map[string][]int{
		"again": {1, 1}, "never": {5, 0}, "code": {7, 0}, "other": {7, 0}, "allowed": {3}, "fails": {2},
	}}
	o, log := options(t, `
again: {retry: 2, script: x}
never: {retry: {max: 1, when: runner_system_failure}, allow_failure: true, script: x}
code: {retry: {max: 1, exit_codes: [7]}, script: x}
other: {retry: {max: 1, exit_codes: [8]}, allow_failure: {exit_codes: 7}, script: x}
allowed: {allow_failure: {exit_codes: [3]}, script: x}
fails: {stage: deploy, script: x}
cleans: {stage: .post, when: on_failure, script: x}
last: {stage: .post, script: x}
`, p)
	outcomes, err := Run(t.Context(), o)
	require.ErrorIs(t, err, ErrJobsFailed)
	require.Equal(t, map[string]string{
		"again": "success", "never": "failed (allowed) exit code 5", "code": "success", "other": "failed (allowed) exit code 7",
		"allowed": "failed (allowed) exit code 3", "fails": "failed exit code 2", "cleans": "success",
		"last": "skipped something before it did not succeed",
	}, states(outcomes))
	require.LessOrEqual(t, p.most, 2, "no more jobs at once than asked for")
	require.Zero(t, p.busy, "every slot is given back")
	require.Contains(t, log.String(), "again failed (script_failure): attempt 3 of 3")
}

func TestJobIsWhatGitLabWouldHandOut(t *testing.T) {
	p := &provider{}
	o, _ := options(t, "variables: {A: file, GIT_DEPTH: '7'}\na: {image: i, variables: {B: $A}, timeout: 10m, script: x}", p)
	o.Overrides = variables.List{{Key: "A", Value: "mine"}}
	_, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, p.jobs, 1)
	job := p.jobs[0]
	require.Equal(t, o.Tree.Sha, job.Git.Sha)
	require.Equal(t, 7, job.Git.Depth)
	require.Equal(t, 600, job.Runner.Timeout)
	require.Equal(t, "i", job.Image.Name)
	list := variables.List(job.Variables).Expand("")
	require.Equal(t, "mine", list.Get("B"))
	require.Equal(t, "a", list.Get("CI_JOB_NAME"))
	require.Equal(t, "local/project", list.Get("CI_PROJECT_PATH"))
	require.Contains(t, list.Masked(), job.Token)
	require.Regexp(t, `^http://gitlab-ci-token:exec-\w+@127\.0\.0\.1:\d+/local/project\.git$`, job.Git.RepoURL)
}

func TestEndOfTheContextCancels(t *testing.T) {
	p := &provider{ready: make(chan struct{})}
	o, _ := options(t, "a: {script: wait}\nb: {stage: deploy, script: x}", p)
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-p.ready
		cancel(common.Fail(common.JobCanceled, common.ErrJobCanceled))
	}()
	outcomes, err := Run(ctx, o)
	require.ErrorIs(t, err, ErrJobsFailed)
	require.Equal(t, map[string]string{"a": "canceled", "b": "canceled not started"}, states(outcomes))
}

func TestUnsupportedJobsAreRefusedOrLeftOut(t *testing.T) {
	p := &provider{}
	o, _ := options(t, "a: {trigger: x}\nb: {stage: deploy, script: x}\nc: {stage: deploy, needs: [a], script: x}", p)
	_, err := Run(t.Context(), o)
	require.EqualError(t, err, "not supported without a GitLab: a uses trigger; --skip-unsupported leaves such jobs out")
	require.False(t, errors.Is(err, ErrJobsFailed))
	o.LeaveOut = true
	outcomes, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"a": "left out uses trigger", "b": "success", "c": "skipped something before it did not succeed",
	}, states(outcomes))
}
