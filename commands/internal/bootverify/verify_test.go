package bootverify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// provider is an executor that does what a test says. But for its stages it is used by one goroutine.
type provider struct {
	began time.Time
	// acquire says why there is no room at the given try, the first of which is 1; nil always has some.
	acquire func(try int) error
	// connect, prepare and run are what those of its executors do; nil succeeds.
	connect func(ctx context.Context) error
	prepare func(ctx context.Context) error
	run     func(ctx context.Context, s common.Stage) error
	// helper is closed when stages can run in the helper before Prepare is done; nil is never.
	helper chan struct{}

	mu        sync.Mutex
	tries     []time.Duration
	job       *common.Job
	stages    []string
	cleanedUp bool
	released  int
}

func (*provider) Name() string                    { return "fake" }
func (*provider) DefaultShell() string            { return "bash" }
func (*provider) Features() spec.Features         { return spec.Features{} }
func (*provider) Reload([]*config.Runner)         {}
func (*provider) Shutdown(context.Context)        {}
func (*provider) Renew(error) bool                { return false }
func (p *provider) Release()                      { p.released++ }
func (*provider) HelperReady() <-chan struct{}    { return nil }
func (p *provider) Cleanup(context.Context) error { p.cleanedUp = true; return nil }

func (p *provider) Acquire(context.Context, *config.Runner) (common.Slot, error) {
	p.tries = append(p.tries, time.Since(p.began))
	if p.acquire != nil {
		if err := p.acquire(len(p.tries)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *provider) NewExecutor(job *common.Job) common.Executor {
	p.job = job
	return p
}

func (*provider) Watch(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

func (p *provider) Connect(ctx context.Context) (common.Machine, error) {
	if p.connect != nil {
		if err := p.connect(ctx); err != nil {
			return common.Machine{}, err
		}
	}
	return common.Machine{OS: "linux", Shell: "bash", Hostname: "h", BuildsDir: "/builds", CacheDir: "/cache"}, nil
}

func (p *provider) Prepare(ctx context.Context) error {
	if p.prepare == nil {
		return nil
	}
	return p.prepare(ctx)
}

func (p *provider) Run(ctx context.Context, s common.Stage) error {
	p.mu.Lock()
	p.stages = append(p.stages, s.Name)
	p.mu.Unlock()
	if p.run == nil {
		return nil
	}
	return p.run(ctx, s)
}

func (*provider) OpenTerminal(context.Context) (io.ReadWriteCloser, error) {
	return nil, errors.New("there is no terminal here")
}

func entry(settings config.BootVerify) *config.Runner {
	return &config.Runner{
		Name: "build-01", Executor: "docker-autoscaler", Docker: &config.Docker{Image: "busybox", VolumeKeep: true}, Autoscaler: &config.Autoscaler{},
		Experimental: &config.RunnerExperimental{BootVerify: &settings},
	}
}

// verify runs a verification in faked time. It returns after how long it ended, what was logged, and how.
func verify(t *testing.T, ctx context.Context, p *provider, settings config.BootVerify) (time.Duration, *logtest.Hook, error) {
	t.Helper()
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	p.began = time.Now()
	err := Run(ctx, Options{Runner: entry(settings), Provider: p, ID: 7, Log: log, Version: version.Get(), Hostname: "manager"})
	return time.Since(p.began), hook, err
}

// failed returns the failure that an error is.
func failed(t *testing.T, err error) *Failure {
	t.Helper()
	var failure *Failure
	require.ErrorAs(t, err, &failure)
	return failure
}

func above(level logrus.Level, hook *logtest.Hook) []string {
	var out []string
	for _, e := range hook.AllEntries() {
		if e.Level <= level {
			out = append(out, fmt.Sprint(e.Message, " ", e.Data["error"], " ", e.Data["retry_in"]))
		}
	}
	return out
}

func TestAJobOfOurOwnGoesTheWayOfAllJobsAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		_, hook, err := verify(t, t.Context(), p, config.BootVerify{})
		require.NoError(t, err)
		// The helper makes the directory, so that it is tried as well.
		require.Equal(t, []string{"get_sources", "step_script"}, p.stages)
		require.True(t, p.cleanedUp)
		require.Equal(t, 1, p.released)
		require.True(t, p.job.Runner.Docker.DisableCache, "its volumes would stay")
		require.False(t, p.job.Runner.Docker.VolumeKeep, "its volumes would stay")
		require.Nil(t, p.job.Spec.Image, "it is to run on the default image")
		require.Empty(t, p.job.Spec.Token)
		require.Empty(t, above(logrus.InfoLevel, hook))
	})
}

func TestRoomIsTriedAgainWithGrowingPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{acquire: func(try int) error {
			switch {
			case try <= 2:
				return errors.New("plugin not found")
			case try <= 6:
				return fmt.Errorf("full: %w", common.ErrNoFreeExecutor)
			}
			return nil
		}}
		_, hook, err := verify(t, t.Context(), p, config.BootVerify{})
		require.NoError(t, err)
		second := time.Second
		require.Equal(t, []time.Duration{0, second, 3 * second, 7 * second, 15 * second, 25 * second, 35 * second}, p.tries)
		require.Equal(t, []string{"There is no room for the boot verification yet plugin not found 1s"}, above(logrus.WarnLevel, hook), "each reason is told once")
		require.Equal(t, 1, p.released)
	})
}

func TestWithoutRoomTheTimeoutEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{acquire: func(int) error { return fmt.Errorf("full: %w", common.ErrNoFreeExecutor) }}
		took, _, err := verify(t, t.Context(), p, config.BootVerify{Timeout: 20 * time.Second, AcquireMinBackoff: 3 * time.Second, AcquireMaxBackoff: 4 * time.Second})
		require.Equal(t, 20*time.Second, took)
		require.Equal(t, []time.Duration{0, 3 * time.Second, 7 * time.Second, 11 * time.Second, 15 * time.Second, 19 * time.Second}, p.tries)
		failure := failed(t, err)
		require.EqualError(t, failure, "at stage acquire: not done within 20s; the last try: full: no free executor")
		require.Equal(t, `check plugin, plugin_config and max_instances in [runners.autoscaler]; or raise timeout in [runners.experimental.boot_verify]; gitlab-runner doctor --name "build-01" tries each step by itself`, failure.Remedy)
		require.Empty(t, failure.Log)
		require.Zero(t, p.released)
	})
}

// stamps are the times of the lines of a job's log, and the streams they came from.
var stamps = regexp.MustCompile(`(?m)^2000-\S+ \d\d[EO] `)

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestAFailureNamesItsStageItsReasonAndWhatToCheck(t *testing.T) {
	lasting := func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
	for name, test := range map[string]struct {
		provider              *provider
		stage, reason, remedy string
		log                   string
		took                  time.Duration
	}{
		"an image": {
			&provider{prepare: func(context.Context) error {
				return common.Fail(common.ImagePullFailure, errors.New("no such image"))
			}},
			"prepare_executor", "no such image", "image, helper_image, pull_policy", "ERROR: Job failed: no such image", 0,
		},
		"a machine, which is tried three times": {
			&provider{prepare: func(context.Context) error { return errors.New("no engine") }},
			"prepare_executor", "no engine", "what the log says of the instances", "ERROR: Job failed (system failure): no engine", 6 * time.Second,
		},
		"a shell": {
			&provider{run: func(_ context.Context, s common.Stage) error {
				if s.Where == common.InHelper {
					return nil
				}
				_, err := io.WriteString(s.Stderr, "\x1b[31msh: not found\x1b[0m\n")
				return errors.Join(err, common.ExitError(127))
			}},
			"step_script", "exit code 127", "the image, which must have a shell", "sh: not found\nCleaning up project directory and file based variables\nERROR: Job failed: exit code 127", 0,
		},
		"an image, with which sources end that were begun ahead": {
			&provider{
				helper: closed(),
				prepare: func(context.Context) error {
					time.Sleep(time.Second)
					return common.Fail(common.ImagePullFailure, errors.New("no such image"))
				},
				run: func(ctx context.Context, _ common.Stage) error { return lasting(ctx) },
			},
			"prepare_executor", "no such image", "image, helper_image, pull_policy", "ERROR: Job failed: no such image", time.Second,
		},
		"the helper": {
			&provider{run: func(context.Context, common.Stage) error { return errors.New("connection lost") }},
			"get_sources", "connection lost", "the engine there", "ERROR: Job failed (system failure): connection lost", 0,
		},
		"a configuration": {
			&provider{prepare: func(context.Context) error {
				return common.Fail(common.RunnerConfigurationError, errors.New("bad volume"))
			}},
			"prepare_executor", "bad volume", "pull_policy and volumes in [runners.docker]", "bad volume", 0,
		},
		"the time": {
			&provider{prepare: lasting},
			"prepare_executor", "not done within 5m0s", "check how long image and helper_image take to be pulled; or raise timeout", "ERROR: Job failed: not done within 5m0s", 5 * time.Minute,
		},
		"the time, without an instance": {
			&provider{connect: lasting},
			"prepare_executor", "not done within 5m0s", "check what the log says of the instances, connector_config", "ERROR: Job failed: not done within 5m0s", 5 * time.Minute,
		},
		"a registry": {
			&provider{prepare: func(context.Context) error {
				return common.Fail(common.RunnerExternalDependencyFailure, errors.New("connection refused"))
			}},
			"prepare_executor", "connection refused", "whether the engine reaches the registries", "connection refused", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				took, hook, err := verify(t, t.Context(), test.provider, config.BootVerify{})
				failure := failed(t, err)
				require.Equal(t, test.stage, failure.Stage)
				require.ErrorContains(t, failure.Reason, test.reason)
				require.Contains(t, failure.Remedy, test.remedy)
				log := stamps.ReplaceAllString(failure.Log, "")
				require.True(t, strings.HasSuffix(log, test.log), log)
				require.NotContains(t, failure.Log, "\x1b")
				require.Equal(t, test.took, took)
				require.True(t, test.provider.cleanedUp)
				require.Equal(t, 1, test.provider.released)
				require.Empty(t, above(logrus.InfoLevel, hook), "it is for the caller to tell, once")
			})
		})
	}
}

func TestAnExecutorThatIsNotThereFailsAtOnce(t *testing.T) {
	log, _ := logtest.NewNullLogger()
	failure := failed(t, Run(t.Context(), Options{Runner: &config.Runner{Executor: "kubernetes"}, Log: log}))
	require.EqualError(t, failure, `at stage acquire: executor "kubernetes": this runner has no such executor`)
	require.Equal(t, "check the key executor", failure.Remedy)
}

func TestTheCallersEndIsNoFailure(t *testing.T) {
	stop := errors.New("stopped")
	for name, p := range map[string]*provider{
		"while there is no room": {acquire: func(int) error { return common.ErrNoFreeExecutor }},
		"while the job runs": {run: func(ctx context.Context, _ common.Stage) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(1500*time.Millisecond, func() { cancel(stop) })
				took, _, err := verify(t, ctx, p, config.BootVerify{})
				require.Equal(t, stop, err)
				require.Equal(t, 1500*time.Millisecond, took)
				require.Equal(t, p.job != nil, p.cleanedUp)
			})
		})
	}
}
