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
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig/rigtest"
)

var update = flag.Bool("update", false, "write the logs anew")

// patience bounds the whole; it is no expectation.
const patience = 5 * time.Minute

func TestMain(m *testing.M) { rigtest.Main(m) }

// TestScenarios runs all scenarios beside each other on one manager.
func TestScenarios(t *testing.T) {
	stage := rigtest.New(t, rigtest.Options{Name: "scenarios", Patience: patience})
	all := readScenarios(t)
	var config strings.Builder
	config.WriteString("concurrent = 10\ncheck_interval = 1\nshutdown_timeout = 60\n\n")
	for i, s := range all {
		token := stage.Coordinator.AddRunner(coordinator.RunnerSpec{Tags: []string{s.name}})
		config.WriteString(stage.Entry(rig.Config{
			Executor: "docker", Token: token, ID: i + 2, RequestConcurrency: 1,
			Keys: "limit = 1\n" + s.Runner.Keys, Docker: s.Runner.Docker,
		}))
	}
	stage.LaunchText(config.String())
	played := make([]chan result, len(all))
	for i, s := range all {
		played[i] = make(chan result, 1)
		go func() { played[i] <- s.play(stage.Ctx, stage.Coordinator) }()
	}
	for i, s := range all {
		t.Run(s.name, func(t *testing.T) { s.judge(t, <-played[i]) })
	}
}

// result is what became of the jobs of a scenario.
type result struct {
	records []coordinator.Record
	tokens  []string
	err     error
}

// play runs the jobs one after the other.
func (s *scenario) play(ctx context.Context, c *coordinator.Coordinator) result {
	var out result
	for _, one := range s.Jobs {
		record, token, err := one.play(ctx, c, s)
		if err != nil {
			out.err = err
			return out
		}
		out.records, out.tokens = append(out.records, record), append(out.tokens, token)
	}
	return out
}

func (j job) play(ctx context.Context, c *coordinator.Coordinator, s *scenario) (coordinator.Record, string, error) {
	handed, err := c.Enqueue(j.spec(s))
	if err != nil {
		return coordinator.Record{}, "", err
	}
	for _, act := range []struct {
		text     string
		graceful bool
	}{{j.Cancel, true}, {j.Abort, false}} {
		if act.text == "" {
			continue
		}
		if err := handed.WaitTrace(ctx, act.text); err != nil {
			return coordinator.Record{}, "", err
		}
		handed.Cancel(act.graceful)
	}
	if err := handed.Wait(ctx); err != nil {
		return coordinator.Record{}, "", fmt.Errorf("%w\n%s", err, handed.Trace())
	}
	return handed.Record(), handed.Token(), nil
}

func (s *scenario) judge(t *testing.T, played result) {
	require.NoError(t, played.err)
	var log strings.Builder
	for i, one := range s.Jobs {
		record := played.records[i]
		if i > 0 {
			log.WriteString("\n")
		}
		assert.Equal(t, one.Want.State, record.State, "state of job %d\n%s", i+1, record.Trace)
		assert.Equal(t, one.Want.Reason, record.FailureReason, "failure reason of job %d", i+1)
		assert.Equal(t, one.Want.ExitCode, record.ExitCode, "exit code of job %d", i+1)
		assert.Equal(t, one.Want.Artifacts, types(record), "artifacts of job %d", i+1)
		assert.NotContains(t, string(record.Trace), played.tokens[i], "the job token is in the log")
		text := normal(record.Trace)
		for _, part := range one.Want.Log {
			assert.Contains(t, text, part)
		}
		if one.Want.Log == nil {
			log.WriteString(text)
		}
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
