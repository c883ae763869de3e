package manager_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/network"
	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/sample"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is an executor whose jobs do what the test says.
type provider struct {
	// run is what the script of a job does; nil succeeds at once.
	run func(ctx context.Context) error
	// refuse is returned by Acquire.
	refuse error
	// moment refuses room while a job that was given some has not begun.
	moment bool

	mu                       sync.Mutex
	now, most, slots, closed int
	reloads                  int
}

func (p *provider) Name() string         { return "fake" }
func (p *provider) DefaultShell() string { return "bash" }
func (p *provider) Features() spec.Features {
	return spec.Features{Variables: true, Image: true, Services: true, ServiceVariables: true, ServiceMultipleAliases: true, ImageExecutorOpts: true, ServiceExecutorOpts: true}
}

func (p *provider) Acquire(context.Context, *config.Runner) (common.Slot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return nil, p.refuse
	}
	if p.moment && p.slots > p.now {
		return nil, fmt.Errorf("a moment: %w", common.ErrNoFreeExecutor)
	}
	p.slots++
	return &slot{p}, nil
}

func (p *provider) Reload([]*config.Runner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reloads++
}

func (p *provider) Shutdown(context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed++
}

func (p *provider) count(change int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now += change
	p.most = max(p.most, p.now)
}

type slot struct{ provider *provider }

func (s *slot) NewExecutor(*common.Job) common.Executor { return &executor{s.provider} }
func (s *slot) Renew(error) bool                        { return false }

func (s *slot) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}
func (s *slot) Release() {
	s.provider.mu.Lock()
	defer s.provider.mu.Unlock()
	s.provider.slots--
}

type executor struct{ provider *provider }

func (e *executor) Connect(context.Context) (common.Machine, error) {
	return common.Machine{OS: "linux", Shell: "bash", Hostname: "h", BuildsDir: "/builds", CacheDir: "/cache"}, nil
}
func (e *executor) Prepare(context.Context) error { return nil }
func (e *executor) HelperReady() <-chan struct{}  { return nil }
func (e *executor) OpenTerminal(context.Context) (io.ReadWriteCloser, error) {
	return nil, errors.New("there is no terminal here")
}

func (e *executor) Cleanup(context.Context) error { return nil }
func (e *executor) Run(ctx context.Context, s common.Stage) error {
	if s.Where != common.InBuild {
		return nil
	}
	e.provider.count(1)
	defer e.provider.count(-1)
	if e.provider.run == nil {
		return nil
	}
	return e.provider.run(ctx)
}

// bench is a manager at work with a stand-in for GitLab.
type bench struct {
	t       *testing.T
	gitlab  *coordinator.Coordinator
	path    string
	signals chan manager.Signal
	ended   chan error
	log     *logtest.Hook
	manager *manager.Manager
}

func start(t *testing.T, p *provider, keys string) *bench {
	t.Helper()
	gitlab, err := coordinator.Start(coordinator.Config{})
	require.NoError(t, err)
	repository, _, err := sample.Create(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, gitlab.AddRepository(sample.Project, repository))

	b := &bench{t: t, gitlab: gitlab, path: filepath.Join(t.TempDir(), "config.toml"), signals: make(chan manager.Signal), ended: make(chan error, 1)}
	b.write(keys)
	log, hook := logtest.NewNullLogger()
	b.log = hook
	t.Cleanup(func() { require.NoError(t, gitlab.Close()) })
	b.again(p, log)
	return b
}

// all are the executors of a test: this one.
func (p *provider) all() map[string]common.ExecutorProvider {
	return map[string]common.ExecutorProvider{"fake": p}
}

// again starts a manager on what is in the file now.
func (b *bench) again(p *provider, log *logrus.Logger) {
	b.t.Helper()
	metrics := manager.NewMetrics(prometheus.NewRegistry(), version.Get())
	client := network.New(network.Options{Version: version.Get(), Logger: log, Recorder: metrics})
	b.t.Cleanup(client.Close)
	file, err := config.Load(b.path)
	require.NoError(b.t, err)
	b.manager = manager.New(manager.Options{
		File: file, ConfigPath: b.path, Providers: p.all(), Network: client,
		RemoteCache: func(*config.Runner) (common.RemoteCache, error) { return nil, nil },
		Log:         log, Version: version.Get(), Hostname: "manager", SystemID: "s_0123456789ab", Metrics: metrics,
		Apply: func(*config.File) {},
	})
	go func() { b.ended <- b.manager.Run(b.signals) }()
}

// write writes the configuration. keys may hold global keys, and keys of the entry after a line "--".
func (b *bench) write(keys string) {
	b.t.Helper()
	text := fmt.Sprintf("check_interval = 1\n%s\n[[runners]]\nname = \"r\"\nurl = %q\ntoken = %q\nexecutor = \"fake\"\nrequest_concurrency = 10\n",
		keys, b.gitlab.URL(), b.gitlab.RunnerToken())
	require.NoError(b.t, os.WriteFile(b.path, []byte(text), 0o600))
}

func (b *bench) signal(kind manager.SignalKind, name string) {
	b.signals <- manager.Signal{Kind: kind, Name: name}
}

func (b *bench) end() error {
	b.t.Helper()
	select {
	case err := <-b.ended:
		return err
	case <-time.After(30 * time.Second):
		require.Fail(b.t, "the manager did not end")
		return nil
	}
}

// errors are those in the process log.
func (b *bench) errors() []string {
	var out []string
	for _, entry := range b.log.AllEntries() {
		if entry.Level == logrus.ErrorLevel {
			out = append(out, fmt.Sprint(entry.Data["error"]))
		}
	}
	return out
}

func (b *bench) enqueue(n int) []*coordinator.Job {
	b.t.Helper()
	var jobs []*coordinator.Job
	for range n {
		job, err := b.gitlab.Enqueue(coordinator.JobSpec{Script: []string{"true"}, Variables: []coordinator.Variable{{Key: "GIT_STRATEGY", Value: "none"}}})
		require.NoError(b.t, err)
		jobs = append(jobs, job)
	}
	return jobs
}

func (b *bench) wait(jobs []*coordinator.Job) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer stop()
	for _, job := range jobs {
		require.NoError(b.t, job.Wait(ctx))
	}
}

// running waits until so many jobs run their scripts.
func (p *provider) running(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.now == n }, 20*time.Second, time.Millisecond)
}

func TestJobsRunWithinTheConcurrencyAndEverythingIsGivenBack(t *testing.T) {
	gate := make(chan struct{})
	p := &provider{run: func(context.Context) error { <-gate; return nil }}
	b := start(t, p, "concurrent = 3")
	jobs := b.enqueue(8)
	p.running(t, 3)
	close(gate)
	b.wait(jobs)
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
	for _, job := range jobs {
		require.Equal(t, coordinator.StateSuccess, job.State())
	}
	require.Empty(t, b.gitlab.Violations())
	require.Equal(t, 3, p.most)
	require.Zero(t, p.slots)
	require.Equal(t, 1, p.closed)
	require.Empty(t, b.manager.Jobs())
}

func TestAGracefulStopWaitsForRunningJobsAndTakesNoMore(t *testing.T) {
	gate := make(chan struct{})
	p := &provider{run: func(context.Context) error { <-gate; return nil }}
	b := start(t, p, "concurrent = 1")
	jobs := b.enqueue(2)
	p.running(t, 1)
	b.signal(manager.Graceful, "quit")
	require.Eventually(t, func() bool { return b.manager.State() == manager.GracefulShutdown }, 10*time.Second, time.Millisecond)
	close(gate)
	require.NoError(t, b.end())
	require.Equal(t, coordinator.StateSuccess, jobs[0].State())
	require.Equal(t, coordinator.StatePending, jobs[1].State())
}

func TestAForcefulStopAbortsJobsAndSaysWhy(t *testing.T) {
	p := &provider{run: func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }}
	b := start(t, p, "concurrent = 1")
	jobs := b.enqueue(1)
	p.running(t, 1)
	b.signal(manager.Forceful, "terminated")
	require.NoError(t, b.end())
	record := jobs[0].Record()
	require.Equal(t, coordinator.StateFailed, record.State)
	require.Equal(t, "runner_interrupted", record.FailureReason)
	require.Contains(t, coordinator.PlainLog(record.Trace), "Job failed: aborted: terminated")
}

func TestASecondForcefulSignalExitsAtOnce(t *testing.T) {
	gate := make(chan struct{})
	p := &provider{run: func(context.Context) error { <-gate; return nil }}
	b := start(t, p, "concurrent = 1")
	jobs := b.enqueue(1)
	p.running(t, 1)
	b.signal(manager.Forceful, "interrupt")
	b.signal(manager.Forceful, "interrupt")
	require.ErrorIs(t, b.end(), manager.ErrForcedExit)
	close(gate)
	b.wait(jobs)
	require.Eventually(t, func() bool { return len(b.manager.Jobs()) == 0 }, 10*time.Second, time.Millisecond)
}

func TestAJobThatDoesNotEndInTimeMakesTheStopFail(t *testing.T) {
	gate := make(chan struct{})
	p := &provider{run: func(context.Context) error { <-gate; return nil }}
	b := start(t, p, "concurrent = 1\nshutdown_timeout = 1")
	jobs := b.enqueue(1)
	p.running(t, 1)
	b.signal(manager.Forceful, "terminated")
	require.ErrorIs(t, b.end(), manager.ErrShutdownTimeout)
	close(gate)
	b.wait(jobs)
	require.Eventually(t, func() bool { return len(b.manager.Jobs()) == 0 }, 10*time.Second, time.Millisecond)
}

func TestWithoutRoomNoJobIsAskedFor(t *testing.T) {
	p := &provider{refuse: fmt.Errorf("full: %w", common.ErrNoFreeExecutor)}
	b := start(t, p, "concurrent = 2")
	jobs := b.enqueue(1)
	require.Eventually(t, func() bool { return len(b.log.AllEntries()) > 0 }, 10*time.Second, time.Millisecond)
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
	require.Equal(t, coordinator.StatePending, jobs[0].State())
	for _, entry := range b.log.AllEntries() {
		require.Greater(t, entry.Level, logrus.ErrorLevel, entry.Message)
	}
}

func TestAQueueIsTakenQuicklyEvenIfRoomIsRefusedForAMoment(t *testing.T) {
	gate := make(chan struct{})
	p := &provider{run: func(context.Context) error { <-gate; return nil }}
	p.moment = true
	b := start(t, p, "concurrent = 5")
	began := time.Now()
	jobs := b.enqueue(5)
	p.running(t, 5)
	// One job for each round over the entries would take four intervals of a second.
	require.Less(t, time.Since(began), 3*time.Second)
	close(gate)
	b.wait(jobs)
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
}

func TestAnExecutorThatCannotBeUsedIsToldAndTheProcessLivesOn(t *testing.T) {
	p := &provider{refuse: errors.New("plugin not found: x")}
	b := start(t, p, "concurrent = 2")
	require.Eventually(t, func() bool {
		for _, entry := range b.log.AllEntries() {
			if entry.Level == logrus.WarnLevel && entry.Message == "Failed to process runner" {
				return true
			}
		}
		return false
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, manager.Running, b.manager.State())
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
}

func TestABadConfigurationKeepsTheOldOneInForce(t *testing.T) {
	p := &provider{}
	b := start(t, p, "concurrent = 2")
	b.write("concurrent = 0")
	b.signal(manager.Reload, "hangup")
	require.Eventually(t, func() bool { return len(b.errors()) == 1 }, 10*time.Second, time.Millisecond)
	require.Equal(t, 2, b.manager.Config().Concurrent)
	b.write("concurrent = 5")
	b.signal(manager.Reload, "hangup")
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
	require.Equal(t, 5, b.manager.Config().Concurrent)
	require.Equal(t, 2, p.reloads)
	require.Contains(t, b.errors()[0], "concurrent is 0")
}

func TestAConfigurationThatIsBeingReplacedKeepsTheOldOneInForce(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"missing": os.Remove,
		"empty":   func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, &provider{}, "concurrent = 2")
			require.NoError(t, replace(b.path))
			b.signal(manager.Reload, "hangup")
			require.Eventually(t, func() bool { return len(b.errors()) == 1 }, 10*time.Second, time.Millisecond)
			require.Contains(t, b.errors()[0], "missing or empty")
			require.Len(t, b.manager.Config().Runners, 1)
			b.write("concurrent = 5")
			b.manager.LookForChanges()
			require.Equal(t, 5, b.manager.Config().Concurrent)
			b.signal(manager.Graceful, "quit")
			require.NoError(t, b.end())
		})
	}
}

func TestAConfigurationThatIsMovedBackIsLoadedAndAMissingOneIsNot(t *testing.T) {
	p := &provider{}
	b := start(t, p, "concurrent = 2")
	b.write("concurrent = 5")
	yesterday := time.Now().Add(-24 * time.Hour)
	require.NoError(t, os.Chtimes(b.path, yesterday, yesterday))
	require.Eventually(t, func() bool { return b.manager.Config().Concurrent == 5 }, 20*time.Second, time.Millisecond)
	require.NoError(t, os.Remove(b.path))
	b.manager.LookForChanges()
	require.Equal(t, 5, b.manager.Config().Concurrent)
	require.Empty(t, b.errors())
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
}

func TestFindingsAreWarnedOfAtEachLoad(t *testing.T) {
	b := start(t, &provider{}, "concurrent = 2\nshutdwn_timeout = 3")
	warnings := func() []string {
		var out []string
		for _, entry := range b.log.AllEntries() {
			if entry.Level == logrus.WarnLevel && entry.Data["key"] != nil {
				out = append(out, fmt.Sprint(entry.Message, " | ", entry.Data["key"], " | ", entry.Data["runner_name"], " | ", entry.Data["line"]))
			}
		}
		return out
	}
	require.Equal(t, []string{"unknown key: did you mean shutdown_timeout? | shutdwn_timeout | <nil> | 3"}, warnings())
	b.write("concurrent = 2\n[experimental.usage_logger]\nwriters = [\"snowplow_billing\"]")
	b.signal(manager.Reload, "hangup")
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
	require.Len(t, warnings(), 2)
	require.Contains(t, warnings()[1], "not honoured by this runner: it has no effect | experimental.usage_logger.writers")
}
