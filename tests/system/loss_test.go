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
			s.start(s.autoscaled(rig.Config{Capacity: 1, IdleCount: 1}))
			job := s.enqueue(coordinator.JobSpec{Script: []string{"echo started", "sleep 300"}})
			require.NoError(t, job.WaitTrace(s.ctx, "started\n"))
			instance := s.instance()

			require.NoError(t, lose(instance))
			lost := time.Now()
			record := s.ended(job)
			s.requireState(record, coordinator.StateFailed, "runner_system_failure")
			require.Less(t, record.Times.Finished.Sub(lost), soon)
			require.Regexp(t, `(?m)^ERROR: Job failed \(system failure\): .*`+instance, plain(record))
			_, problems := readTrace(record)
			require.Empty(t, problems)

			next := s.succeeds(coordinator.JobSpec{Name: "the next one"})
			require.NotContains(t, string(next.Trace), instance)
			require.Contains(t, s.destroyed(), instance, "an instance that cannot be used was kept")
		})
	}
}

func TestInstanceKilledWhileIdleIsReplaced(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.start(s.autoscaled(rig.Config{Capacity: 1, IdleCount: 1}))
	s.awaitLog("info", "instance is ready")
	instance := s.instance()
	require.NoError(t, rig.KillInstance(instance))
	record := s.succeeds(coordinator.JobSpec{})
	require.NotContains(t, string(record.Trace), instance+" connected")
	require.NotContains(t, string(record.Trace), "Preparation failed")
}

func TestIdleInstanceWhoseEngineStoppedFailsNoJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.start(s.autoscaled(rig.Config{Capacity: 1, IdleCount: 1}))
	s.succeeds(coordinator.JobSpec{Name: "before"})
	instance := s.instance()
	s.inInstance(instance, "mv", "/var/run/docker.sock", "/var/run/elsewhere.sock")

	record := s.succeeds(coordinator.JobSpec{Name: "after"})
	require.Contains(t, plain(record), instance, "the job log does not name the instance that was given up")
	require.Contains(t, s.destroyed(), instance, "an instance that cannot be used was kept")
}

func TestJobOutlivesItsPlugin(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.newGate()
	s.start(s.autoscaled(rig.Config{IdleCount: 1, MaxUseCount: 1}))
	job := s.enqueue(coordinator.JobSpec{Script: []string{gate.Wait}})
	s.eventually(patience, func() bool { return gate.held() == 1 }, "the job does not get to its script")

	instance := s.instance()
	killed := s.plugin()
	require.NotZero(t, killed, "no plugin process was found")
	require.NoError(t, syscall.Kill(killed, syscall.SIGKILL))
	s.eventually(soon, func() bool { return s.plugin() != 0 && s.plugin() != killed }, "the plugin was not started again")
	require.Equal(t, coordinator.StateRunning, job.State())
	gate.open()
	s.requireState(s.ended(job), coordinator.StateSuccess, "")
	// The next job needs another instance, which only the plugin can make.
	s.succeeds(coordinator.JobSpec{Name: "the next one"})
	require.Contains(t, s.destroyed(), instance)
}
