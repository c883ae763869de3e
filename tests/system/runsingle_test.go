//go:build system

package system

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

func TestRunSingleEndsAfterItsJobsOrWithoutAny(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	single := func(args ...string) string {
		out, err := s.Runner(s.ctx, append([]string{
			"run-single", "--config", filepath.Join(s.Dir, "none.toml"), "--url", s.Coordinator.URL(), "--token", s.Coordinator.RunnerToken(),
			"--executor", "docker", "--docker-image", busybox, "--docker-pull-policy", "if-not-present",
		}, args...)...)
		require.NoError(t, err, out)
		require.NotContains(t, out, s.Coordinator.RunnerToken())
		return out
	}
	var jobs []*coordinator.Job
	for range 3 {
		jobs = append(jobs, s.enqueue(coordinator.JobSpec{Script: []string{"true"}}))
	}
	single("--max-builds", "2")
	require.Equal(t, coordinator.StateSuccess, s.ended(jobs[0]).State)
	require.Equal(t, coordinator.StateSuccess, s.ended(jobs[1]).State)
	require.Equal(t, coordinator.StatePending, jobs[2].State())

	single("--wait-timeout", "2")
	require.Equal(t, coordinator.StateSuccess, s.ended(jobs[2]).State)

	out, err := s.Runner(s.ctx, "run-single", "--url", s.Coordinator.URL(), "--executor", "docker")
	require.Error(t, err)
	require.Contains(t, out, "give --token")
}
