//go:build system

package scenarios

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

var update = flag.Bool("update", false, "write the logs anew")

// patience bounds the whole; it is no expectation.
const patience = 5 * time.Minute

// TestScenarios runs all scenarios beside each other on one manager.
func TestScenarios(t *testing.T) {
	r, err := rig.New(rig.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	all := readScenarios(t)
	var config strings.Builder
	config.WriteString("concurrent = 6\ncheck_interval = 1\nshutdown_timeout = 60\n\n")
	for i, s := range all {
		token := r.Coordinator.AddRunner(coordinator.RunnerSpec{Tags: []string{s.name}})
		config.WriteString(r.Entry(rig.Config{
			Executor: "docker", Token: token, ID: i + 2, RequestConcurrency: 1,
			Keys: "limit = 1\n" + s.Runner.Keys, Docker: s.Runner.Docker,
		}))
	}
	require.NoError(t, r.WriteConfig(config.String()))
	manager, err := r.Start()
	require.NoError(t, err)
	ctx, stop := context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("the scenarios' %s are over", patience))
	t.Cleanup(func() {
		defer stop()
		if err := manager.Stop(ctx); err != nil {
			t.Error(err)
		}
		left, err := r.Remains()
		if err != nil || len(left) > 0 {
			t.Errorf("this was left behind: %v, %v", left, err)
		}
		if violations := r.Coordinator.Violations(); len(violations) > 0 {
			t.Errorf("the protocol was violated:\n  %s", strings.Join(violations, "\n  "))
		}
		if t.Failed() {
			t.Logf("the manager's log:\n%s", manager.LogText())
		}
		if err := r.RemoveCaches(); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("all", func(t *testing.T) {
		for _, s := range all {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.run(ctx, t, r.Coordinator)
			})
		}
	})
}

func (s *scenario) run(ctx context.Context, t *testing.T, c *coordinator.Coordinator) {
	var log strings.Builder
	for i, one := range s.Jobs {
		if i > 0 {
			log.WriteString("\n")
		}
		handed, err := c.Enqueue(one.spec(s))
		require.NoError(t, err)
		for _, act := range []struct {
			text     string
			graceful bool
		}{{one.Cancel, true}, {one.Abort, false}} {
			if act.text != "" {
				require.NoError(t, handed.WaitTrace(ctx, act.text))
				handed.Cancel(act.graceful)
			}
		}
		require.NoError(t, handed.Wait(ctx))
		record := handed.Record()
		text := normal(record.Trace)
		for _, part := range one.Want.Log {
			assert.Contains(t, text, part)
		}
		if one.Want.Log == nil {
			log.WriteString(text)
		}

		assert.Equal(t, one.Want.State, record.State, "state of job %d\n%s", i+1, record.Trace)
		assert.Equal(t, one.Want.Reason, record.FailureReason, "failure reason of job %d", i+1)
		assert.Equal(t, one.Want.ExitCode, record.ExitCode, "exit code of job %d", i+1)
		assert.Equal(t, one.Want.Artifacts, types(record), "artifacts of job %d", i+1)
		assert.NotContains(t, string(record.Trace), handed.Token(), "the job token is in the log")
	}
	if log.Len() == 0 {
		return
	}
	path := "testdata/" + s.name + ".log"
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(log.String()), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), log.String())
}

func types(record coordinator.Record) []string {
	var out []string
	for _, artifact := range record.Artifacts {
		out = append(out, artifact.Type)
	}
	return out
}
