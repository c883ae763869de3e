//go:build system

package system

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestJobOnALostInstanceFailsWithinSecondsAndTheNextOneRuns(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(instance string) error{
		"killed": rig.KillInstance,
		// Nobody closes its connections, and its cloud calls it running.
		"frozen": rig.FreezeInstance,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, coordinator.Config{})
			s.Launch(s.Autoscaled(rig.Config{Capacity: 1, IdleCount: 1}))
			job := s.Enqueue(coordinator.JobSpec{Script: []string{"echo started", "sleep 300"}})
			require.NoError(t, job.WaitTrace(s.Ctx, "started\n"))
			instance := s.Instance()

			require.NoError(t, lose(instance))
			lost := time.Now()
			record := s.Ended(job)
			s.RequireState(record, coordinator.StateFailed, "runner_system_failure")
			require.Less(t, record.Times.Finished.Sub(lost), soon)
			require.Regexp(t, `(?m)^ERROR: Job failed \(system failure\): .*`+instance, plain(record))
			_, problems := readTrace(record)
			require.Empty(t, problems)

			next := s.Succeeds(coordinator.JobSpec{Name: "the next one"})
			require.NotContains(t, string(next.Trace), instance)
			require.Contains(t, s.destroyed(), instance, "an instance that cannot be used was kept")
		})
	}
}

func TestInstanceKilledWhileIdleIsReplaced(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{Capacity: 1, IdleCount: 1}))
	s.AwaitLog("info", "instance is ready")
	instance := s.Instance()
	require.NoError(t, rig.KillInstance(instance))
	record := s.Succeeds(coordinator.JobSpec{})
	require.NotContains(t, string(record.Trace), instance+" connected")
	require.NotContains(t, string(record.Trace), "Preparation failed")
}

func TestIdleInstanceWhoseEngineStoppedFailsNoJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{Capacity: 1, IdleCount: 1}))
	s.Succeeds(coordinator.JobSpec{Name: "before"})
	instance := s.Instance()
	s.InInstance(instance, "mv", "/var/run/docker.sock", "/var/run/elsewhere.sock")

	record := s.Succeeds(coordinator.JobSpec{Name: "after"})
	require.Contains(t, plain(record), instance, "the job log does not name the instance that was given up")
	require.Contains(t, s.destroyed(), instance, "an instance that cannot be used was kept")
}

func TestJobOutlivesItsPlugin(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.NewGate()
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1, MaxUseCount: 1}))
	job := s.Enqueue(coordinator.JobSpec{Script: []string{gate.Wait}})
	s.Eventually(patience, func() bool { return gate.Held() == 1 }, "the job does not get to its script")

	instance := s.Instance()
	killed := s.Plugins()
	require.Len(t, killed, 1)
	require.NoError(t, syscall.Kill(killed[0], syscall.SIGKILL))
	s.Eventually(soon, func() bool {
		plugins := s.Plugins()
		return len(plugins) == 1 && plugins[0] != killed[0]
	}, "the plugin was not started again")
	require.Equal(t, coordinator.StateRunning, job.State())
	gate.Open()
	s.AllSucceed(job)
	// The next job needs another instance, which only the plugin can make.
	s.Succeeds(coordinator.JobSpec{Name: "the next one"})
	require.Contains(t, s.destroyed(), instance)
}
