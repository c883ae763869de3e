package manager_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

// boot is a manager in faked time that would ask for jobs, but is never allowed to.
type boot struct {
	manager *manager.Manager
	signals chan manager.Signal
	ended   chan error
	log     *logtest.Hook
	// asked is how often it would have asked for a job.
	asked atomic.Int64

	mu   sync.Mutex
	told []manager.ProcessState
}

// bootUp starts a manager on a configuration whose entries have the executors "fake" and "other".
func bootUp(t *testing.T, text string, fake, other *provider) *boot {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	file, err := config.Load(path)
	require.NoError(t, err)
	log, hook := logtest.NewNullLogger()
	client := network.New(network.Options{Version: version.Get(), Logger: log})
	t.Cleanup(client.Close)
	b := &boot{signals: make(chan manager.Signal), ended: make(chan error, 1), log: hook}
	b.manager = manager.New(manager.Options{
		File: file, ConfigPath: path, Network: client, Log: log,
		Providers: map[string]common.ExecutorProvider{"fake": fake, "other": other},
		Version:   version.Get(), Hostname: "manager",
		Metrics: manager.NewMetrics(prometheus.NewRegistry(), version.Get()), Apply: func(*config.File) {},
		Allow: func() bool { b.asked.Add(1); return false },
		Progress: func(state manager.ProcessState) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.told = append(b.told, state)
		},
	})
	go func() { b.ended <- b.manager.Run(b.signals) }()
	return b
}

// progress is what was told of the manager's states so far.
func (b *boot) progress() []manager.ProcessState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.told)
}

// usage is how often a provider was told of a configuration, and what it holds and held.
type usage struct{ reloads, slots, most, closed int }

func (p *provider) usage() usage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return usage{p.reloads, p.slots, p.most, p.closed}
}

// verified is an entry that is verified at boot.
func verified(name, executor string) string {
	return fmt.Sprintf("[[runners]]\nname = %q\nurl = \"https://gitlab.example.com\"\ntoken = %q\nexecutor = %q\n[runners.experimental.boot_verify]\nenabled = true\n", name, "t-"+name, executor)
}

// at returns the entries of the process log at a level.
func (b *boot) at(level logrus.Level) []*logrus.Entry {
	return slices.DeleteFunc(b.log.AllEntries(), func(e *logrus.Entry) bool { return e.Level != level })
}

func lasting(d time.Duration) func(context.Context) error {
	return func(ctx context.Context) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func TestNoJobIsAskedForBeforeEveryEntryIsVerifiedThatIsToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, other := &provider{run: lasting(55 * time.Second)}, &provider{run: lasting(time.Second)}
		plain := "[[runners]]\nname = \"plain\"\nurl = \"https://gitlab.example.com\"\ntoken = \"p\"\nexecutor = \"other\"\n"
		b := bootUp(t, "concurrent = 4\n"+plain+verified("slow", "fake")+verified("quick", "other"), fake, other)
		time.Sleep(55*time.Second - time.Millisecond)
		synctest.Wait()
		require.False(t, b.manager.Ready())
		require.Equal(t, manager.Starting, b.manager.State())
		require.Zero(t, b.asked.Load())
		require.Equal(t, 1, fake.usage().slots)
		require.Equal(t, []manager.ProcessState{manager.Starting, manager.Starting, manager.Starting}, b.progress(), "at the start and every 20 s")

		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		require.True(t, b.manager.Ready())
		require.Equal(t, manager.Running, b.manager.State())
		require.NotZero(t, b.asked.Load())
		require.Zero(t, fake.usage().slots)
		took := map[any]any{}
		for _, e := range b.at(logrus.InfoLevel) {
			if e.Message == "Boot verification succeeded" {
				took[e.Data["runner_name"]] = e.Data["duration_s"]
			}
		}
		require.Equal(t, map[any]any{"quick": 1.0, "slow": 55.0}, took)

		b.signals <- manager.Signal{Kind: manager.Graceful, Name: "quit"}
		require.NoError(t, <-b.ended)
		require.True(t, b.manager.Ready(), "readiness tells nothing of the end")
		require.Equal(t, []manager.ProcessState{manager.Running, manager.GracefulShutdown}, b.progress()[3:])
		require.Equal(t, 1, fake.usage().most)
		require.Equal(t, 1, other.usage().most, "the plain entry was verified, too")
	})
}

func TestAFailedVerificationEndsTheProcessAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &provider{run: func(context.Context) error {
			time.Sleep(2 * time.Second)
			return common.Fail(common.ScriptFailure, errors.New("it said\nmuch"))
		}}
		other := &provider{run: lasting(time.Hour)}
		b := bootUp(t, "concurrent = 4\n"+verified("good", "other")+verified("bad", "fake"), fake, other)
		began := time.Now()
		err := <-b.ended
		require.ErrorIs(t, err, manager.ErrBootVerification)
		require.EqualError(t, err, `the boot verification failed: runner "bad"`)
		require.Equal(t, 2*time.Second, time.Since(began), "the other verification is aborted")
		require.Zero(t, b.asked.Load())
		require.False(t, b.manager.Ready())
		require.Equal(t, []manager.ProcessState{manager.Starting, manager.GracefulShutdown}, b.progress())
		for _, p := range []*provider{fake, other} {
			require.Zero(t, p.usage().slots)
			require.Equal(t, 1, p.usage().closed)
		}
		told := b.at(logrus.ErrorLevel)
		require.Len(t, told, 1)
		require.Equal(t, `Boot verification of runner "bad" failed at stage step_script: it said; much; no job is asked for and the process ends; `+
			`check the image, which must have a shell, pre_build_script and post_build_script; gitlab-runner doctor --name "bad" tries each step by itself`, told[0].Message)
		require.Equal(t, "bad", told[0].Data["runner_name"])
		require.Equal(t, "step_script", told[0].Data["stage"])
		lines := b.at(logrus.WarnLevel)
		require.Contains(t, lines[len(lines)-1].Message, "ERROR: Job failed: it said")
	})
}

func TestAStopAbortsTheVerificationAndIsNoFailure(t *testing.T) {
	for name, test := range map[string]struct {
		signal manager.SignalKind
		run    func(context.Context) error
		refuse error
		want   manager.ProcessState
	}{
		"SIGQUIT":               {manager.Graceful, lasting(time.Hour), nil, manager.GracefulShutdown},
		"SIGTERM":               {manager.Forceful, lasting(time.Hour), nil, manager.ForcefulShutdown},
		"SIGTERM without room":  {manager.Forceful, nil, common.ErrNoFreeExecutor, manager.ForcefulShutdown},
		"SIGQUIT as it is done": {manager.Graceful, lasting(time.Second), nil, manager.GracefulShutdown},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &provider{run: test.run, refuse: test.refuse}
				b := bootUp(t, "concurrent = 4\n"+verified("one", "fake"), p, &provider{})
				// Who sends it does not wait until it is taken.
				time.Sleep(time.Second)
				began := time.Now()
				b.signals <- manager.Signal{Kind: test.signal, Name: "a signal"}
				require.NoError(t, <-b.ended)
				require.Zero(t, time.Since(began))
				require.Equal(t, test.want, b.manager.State())
				require.Zero(t, p.usage().slots)
				require.Equal(t, 1, p.usage().closed)
				require.Empty(t, b.at(logrus.ErrorLevel))
			})
		})
	}
}

func TestAVerificationThatDoesNotEndIsNotWaitedForForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		p := &provider{run: func(context.Context) error { <-gate; return errors.New("late") }}
		b := bootUp(t, "concurrent = 1\nshutdown_timeout = 7\n"+verified("one", "fake"), p, &provider{})
		synctest.Wait()
		began := time.Now()
		b.signals <- manager.Signal{Kind: manager.Forceful, Name: "terminated"}
		require.ErrorIs(t, <-b.ended, manager.ErrShutdownTimeout)
		require.Equal(t, 7*time.Second, time.Since(began))
		close(gate)
		synctest.Wait()
	})
}

func TestAReloadWaitsForTheVerificationAndBringsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		p := &provider{run: func(ctx context.Context) error { runs.Add(1); return lasting(time.Minute)(ctx) }}
		b := bootUp(t, "concurrent = 4\n"+verified("one", "fake"), p, &provider{})
		synctest.Wait()
		b.signals <- manager.Signal{Kind: manager.Reload, Name: "hangup"}
		synctest.Wait()
		require.Equal(t, 1, p.usage().reloads, "the entries under verification stay in force")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, 2, p.usage().reloads)
		b.signals <- manager.Signal{Kind: manager.Reload, Name: "hangup"}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 3, p.usage().reloads)
		b.signals <- manager.Signal{Kind: manager.Graceful, Name: "quit"}
		require.NoError(t, <-b.ended)
		require.EqualValues(t, 1, runs.Load())
	})
}

func TestNoMoreEntriesAreVerifiedAtOnceThanJobsMayRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{run: lasting(4 * time.Minute)}
		b := bootUp(t, "concurrent = 2\n"+verified("1", "fake")+verified("2", "fake")+verified("3", "fake"), p, &provider{})
		time.Sleep(7 * time.Minute)
		synctest.Wait()
		require.False(t, b.manager.Ready())
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.True(t, b.manager.Ready(), "the time of an entry begins with its turn")
		require.Equal(t, 2, p.usage().most)
		b.signals <- manager.Signal{Kind: manager.Graceful, Name: "quit"}
		require.NoError(t, <-b.ended)
	})
}
