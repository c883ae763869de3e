package manager_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

func TestAPausedRunnerTakesNoJobsUntilItIsResumed(t *testing.T) {
	b := start(t, &provider{}, "concurrent = 2")
	_, err := b.manager.Pause("nobody")
	require.ErrorIs(t, err, manager.ErrUnknownRunner)
	names, err := b.manager.Pause("r")
	require.NoError(t, err)
	require.Equal(t, []string{"r"}, names)
	require.True(t, b.manager.Status().Runners[0].Paused)
	// What was under way when it was paused is over.
	require.Eventually(t, func() bool { return b.manager.Status().Runners[0].Requests == 0 }, 10*time.Second, 10*time.Millisecond)

	job, err := b.gitlab.Enqueue(coordinator.JobSpec{Script: []string{"true"}})
	require.NoError(t, err)
	asked := len(b.gitlab.Requests())
	require.Never(t, func() bool { return len(b.gitlab.Requests()) > asked }, 2500*time.Millisecond, 100*time.Millisecond)
	names, err = b.manager.Resume("")
	require.NoError(t, err)
	require.Equal(t, []string{"r"}, names)
	require.NoError(t, job.Wait(t.Context()))
	require.Equal(t, coordinator.StateSuccess, job.Record().State)
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
}

func TestTheStatusHasNoCredentials(t *testing.T) {
	b := start(t, &provider{}, "")
	status := b.manager.Status()
	require.Equal(t, "r", status.Runners[0].Name)
	require.Equal(t, 1, status.Concurrent)
	require.Error(t, b.manager.Drain("", "i-1"), "no executor has instances")
	text, err := json.Marshal(status)
	require.NoError(t, err)
	require.NotContains(t, string(text), b.gitlab.RunnerToken())
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
}
