//go:build system

package system

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig/rigtest"
)

func TestRunSingleEndsAfterItsJobsOrWithoutAny(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	single := func(args ...string) string {
		out, err := s.Runner(s.Ctx, append([]string{
			"run-single", "--config", filepath.Join(s.Dir, "none.toml"), "--url", s.Coordinator.URL(), "--token", s.Coordinator.RunnerToken(),
			"--executor", "docker", "--docker-image", rigtest.Busybox, "--docker-pull-policy", "if-not-present",
		}, args...)...)
		require.NoError(t, err, out)
		require.NotContains(t, out, s.Coordinator.RunnerToken())
		return out
	}
	var jobs []*coordinator.Job
	for range 3 {
		jobs = append(jobs, s.Enqueue(coordinator.JobSpec{Script: []string{"true"}}))
	}
	single("--max-builds", "2")
	require.Equal(t, coordinator.StateSuccess, s.Ended(jobs[0]).State)
	require.Equal(t, coordinator.StateSuccess, s.Ended(jobs[1]).State)
	require.Equal(t, coordinator.StatePending, jobs[2].State())

	single("--wait-timeout", "2")
	require.Equal(t, coordinator.StateSuccess, s.Ended(jobs[2]).State)

	out, err := s.Runner(s.Ctx, "run-single", "--url", s.Coordinator.URL(), "--executor", "docker")
	require.Error(t, err)
	require.Contains(t, out, "give --token")
}
