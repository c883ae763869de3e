//go:build system

package system

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestSIGTERMAbortsJobsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.newGate()
	s.start(s.autoscaled(rig.Config{IdleCount: 1}))
	job := s.enqueue(coordinator.JobSpec{Script: []string{"echo started", gate.Wait}, AfterScript: []string{"echo after_script ran"}})
	require.NoError(t, job.WaitTrace(s.ctx, "started\n"))

	require.NoError(t, s.manager.Signal(syscall.SIGTERM))
	record := s.ended(job)
	s.requireState(record, coordinator.StateFailed, "runner_interrupted")
	require.Contains(t, plain(record), "ERROR: Job failed: aborted: terminated")
	require.NotContains(t, plain(record), "after_script ran")
	require.NoError(t, s.manager.Wait(s.ctx))
	require.Empty(t, s.fleet.Alive(), "instances outlived the manager")
}

func TestSIGQUITWaitsForJobsAndTakesNoMore(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.newGate()
	s.start(s.autoscaled(rig.Config{IdleCount: 1, Capacity: 2}))
	// It goes on for long enough for a manager that still asks, which it would do every second.
	job := s.enqueue(coordinator.JobSpec{Script: []string{"echo started", gate.Wait, "sleep 3"}})
	require.NoError(t, job.WaitTrace(s.ctx, "started\n"))

	require.NoError(t, s.manager.Signal(syscall.SIGQUIT))
	s.awaitLog("warning", "Starting graceful shutdown")
	next := s.enqueue(coordinator.JobSpec{Script: []string{"true"}})
	gate.open()
	s.requireState(s.ended(job), coordinator.StateSuccess, "")
	require.NoError(t, s.manager.Wait(s.ctx))
	require.Equal(t, coordinator.StatePending, next.State())
}

func TestKilledManagerTakesItsPluginAlongAndTheNextOneClearsUp(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.newGate()
	config := s.autoscaled(rig.Config{IdleCount: 1})
	s.start(config)
	job := s.enqueue(coordinator.JobSpec{Script: []string{"echo started", gate.Wait}})
	require.NoError(t, job.WaitTrace(s.ctx, "started\n"))
	orphan := s.instance()
	require.NotZero(t, s.plugin(), "no plugin process was found")

	require.NoError(t, s.manager.Signal(syscall.SIGKILL))
	<-s.manager.Done()
	s.eventually(soon, func() bool { return s.plugin() == 0 }, "the plugin outlived its manager")
	job.Fail("stuck_or_timeout_failure")

	s.start(config)
	record := s.succeeds(coordinator.JobSpec{})
	require.Contains(t, s.destroyed(), orphan, "an instance of which the manager knows nothing was kept")
	require.NotContains(t, string(record.Trace), orphan)
}

// plugin is the process id of the plugin that this stage's manager runs, 0 if there is none.
func (s *stage) plugin() int {
	s.Helper()
	processes, err := s.Processes()
	require.NoError(s, err)
	for pid, program := range processes {
		if strings.HasPrefix(program, s.PluginPath()) {
			return pid
		}
	}
	return 0
}

// destroyed are the names of the instances that are gone.
func (s *stage) destroyed() []string {
	var names []string
	for _, life := range s.fleet.Lives() {
		if !life.Destroyed.IsZero() {
			names = append(names, life.Name)
		}
	}
	return names
}
