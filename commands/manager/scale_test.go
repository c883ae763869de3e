package manager_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/network"
	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

const (
	manyEntries = 200
	// mostMemory is what the whole test process may have resident, the stand-in for GitLab included.
	mostMemory = 300 << 20 * raceFactor
)

// Each of many entries runs one job, all at once, in little memory, and nothing is left running,
// which TestMain makes sure of.
func TestManyEntriesRunManyJobsAtOnceInLittleMemory(t *testing.T) {
	gate := make(chan struct{})
	p := &provider{run: func(context.Context) error { <-gate; return nil }}
	b := start(t, p, "concurrent = 1")
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
	p.closed = 0

	log, hook := logtest.NewNullLogger()
	client := network.New(network.Options{Version: version.Get(), Logger: log})
	text := strings.Builder{}
	fmt.Fprintf(&text, "concurrent = %d\ncheck_interval = 1\n", manyEntries)
	for i := range manyEntries {
		identity, err := client.RegisterRunner(t.Context(), network.Credentials{URL: b.gitlab.URL(), Token: b.gitlab.RegistrationToken()},
			network.RegisterRequest{Description: fmt.Sprint("runner ", i), RunUntagged: true, Info: client.RunnerInfo(&config.Runner{Executor: "fake"}, p.Features(), "bash", nil)})
		require.NoError(t, err)
		fmt.Fprintf(&text, "[[runners]]\nname = \"%d\"\nurl = %q\ntoken = %q\nexecutor = \"fake\"\nlimit = 1\n", i, b.gitlab.URL(), identity.Token)
	}
	require.NoError(t, os.WriteFile(b.path, []byte(text.String()), 0o600))
	client.Close()
	b.again(p, log)
	b.log = hook

	jobs := b.enqueue(manyEntries)
	began := time.Now()
	p.running(t, manyEntries)
	t.Logf("%d entries run %d jobs after %s, with %d MiB resident", manyEntries, p.most, time.Since(began).Round(time.Millisecond), resident(t)>>20)
	require.Less(t, resident(t), int64(mostMemory))
	require.Len(t, b.manager.Jobs(), manyEntries)
	perEntry := map[string]int{}
	for _, job := range b.manager.Jobs() {
		perEntry[job.Runner.Name]++
	}
	require.Len(t, perEntry, manyEntries, "an entry ran more jobs than its limit")
	close(gate)
	b.wait(jobs)
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
	require.Zero(t, p.slots)
	require.Equal(t, 1, p.closed)
	for _, entry := range hook.AllEntries() {
		require.Greater(t, entry.Level, logrus.ErrorLevel, entry.Message)
	}
	for _, job := range jobs {
		require.Equal(t, coordinator.StateSuccess, job.State())
	}
	require.Empty(t, b.gitlab.Violations())
}

// resident is the memory that this process has resident, in bytes.
func resident(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	var size, pages int64
	_, err = fmt.Sscan(string(text), &size, &pages)
	require.NoError(t, err)
	return pages * int64(os.Getpagesize())
}

func TestWithoutAFileThereIsNothingToLoadAgain(t *testing.T) {
	log, _ := logtest.NewNullLogger()
	client := network.New(network.Options{Version: version.Get(), Logger: log})
	defer client.Close()
	p := &provider{}
	ended, allowed := 0, false
	m := manager.New(manager.Options{
		File: &config.File{Config: config.Config{Concurrent: 1}}, Providers: p.all(), Network: client, Log: log,
		Metrics: manager.NewMetrics(prometheus.NewRegistry(), version.Get()), Apply: func(*config.File) {},
		Allow: func() bool { return allowed }, JobEnded: func() { ended++ },
	})
	signals := make(chan manager.Signal)
	done := make(chan error)
	go func() { done <- m.Run(signals) }()
	signals <- manager.Signal{Kind: manager.Reload, Name: "hangup"}
	signals <- manager.Signal{Kind: manager.Graceful, Name: "quit"}
	require.NoError(t, <-done)
	require.Equal(t, 1, p.reloads)
	require.Zero(t, ended)
}
