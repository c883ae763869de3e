package commands_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

func TestTheLogOfASingleRunnerHasNoSecrets(t *testing.T) {
	c := gitlab(t)
	const ofOperator, ofJob = "q1w2e3r4t5", "z9u8i7o6p5"
	job, err := c.Enqueue(coordinator.JobSpec{
		Script:    []string{"true"},
		Variables: []coordinator.Variable{{Key: "GIT_STRATEGY", Value: "none"}, {Key: "PASSWORD", Value: ofJob, Masked: true}},
	})
	require.NoError(t, err)
	// An engine that is not there is named in the log, and here its name is made of secrets.
	_, stderr, err := run(t, "", "run-single", "--config", t.TempDir()+"/none.toml", "--url", c.URL(), "--token", c.RunnerToken(),
		"--executor", "docker", "--docker-image", "busybox", "--docker-host", "unix:///"+ofOperator+"/"+ofJob, "--env", "OPERATORS_TOKEN="+ofOperator,
		"--max-builds", "1")
	require.NoError(t, err)
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	require.NoError(t, job.Wait(ctx))
	require.Contains(t, stderr, "unix:///[MASKED]/[MASKED]")
	require.NotContains(t, stderr, ofOperator)
	require.NotContains(t, stderr, ofJob)
}
