//go:build system

package system

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestSIGTERMAbortsJobsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.NewGate()
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1}))
	job := s.Enqueue(coordinator.JobSpec{Script: []string{"echo started", gate.Wait}, AfterScript: []string{"echo after_script ran"}})
	require.NoError(t, job.WaitTrace(s.Ctx, "started\n"))

	require.NoError(t, s.Manager.Signal(syscall.SIGTERM))
	record := s.Ended(job)
	s.RequireState(record, coordinator.StateFailed, "runner_interrupted")
	require.Contains(t, plain(record), "ERROR: Job failed: aborted: terminated")
	require.NotContains(t, plain(record), "after_script ran")
	require.NoError(t, s.Manager.Wait(s.Ctx))
	require.Empty(t, s.Fleet.Alive(), "instances outlived the manager")
}

func TestSIGQUITWaitsForJobsAndTakesNoMore(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.NewGate()
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1, Capacity: 2}))
	// It goes on for long enough for a manager that still asks, which it would do every second.
	job := s.Enqueue(coordinator.JobSpec{Script: []string{"echo started", gate.Wait, "sleep 3"}})
	require.NoError(t, job.WaitTrace(s.Ctx, "started\n"))

	require.NoError(t, s.Manager.Signal(syscall.SIGQUIT))
	s.AwaitLog("warning", "Starting graceful shutdown")
	next := s.Enqueue(coordinator.JobSpec{Script: []string{"true"}})
	gate.Open()
	s.AllSucceed(job)
	require.NoError(t, s.Manager.Wait(s.Ctx))
	require.Equal(t, coordinator.StatePending, next.State())
}

func TestKilledManagerTakesItsPluginAlongAndTheNextOneClearsUp(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.NewGate()
	config := s.Autoscaled(rig.Config{IdleCount: 1})
	s.Launch(config)
	job := s.Running(gate)
	orphan := s.Instance()
	require.NotEmpty(t, s.Plugins(), "no plugin process was found")

	require.NoError(t, s.Manager.Signal(syscall.SIGKILL))
	<-s.Manager.Done()
	s.Eventually(soon, func() bool { return len(s.Plugins()) == 0 }, "the plugin outlived its manager")
	job.Fail("stuck_or_timeout_failure")

	s.Launch(config)
	record := s.Succeeds(coordinator.JobSpec{})
	require.Contains(t, s.destroyed(), orphan, "an instance of which the manager knows nothing was kept")
	require.NotContains(t, string(record.Trace), orphan)
}

// destroyed are the names of the instances that are gone.
func (s *stage) destroyed() []string {
	var names []string
	for _, life := range s.Fleet.Lives() {
		if !life.Destroyed.IsZero() {
			names = append(names, life.Name)
		}
	}
	return names
}
