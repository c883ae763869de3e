//go:build system

package autoscaling

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// withState are the tables of an entry that keeps its state.
const withState = `
    [runners.autoscaler.state_storage]
      enabled = true
      keep_instance_with_acquisitions = true
`

// beforeRestart runs a job on a manager that leaves the instance to the next one.
func (s *stage) beforeRestart(config rig.Config) *coordinator.Job {
	s.Helper()
	config.DeleteOnShutdown = false
	s.Launch(config)
	job := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(job)
	s.Stop()
	require.Len(s, s.Fleet.Alive(), 1)
	return job
}

func TestARestartWithStateKeepsIdleInstancesAndTheirUseCounts(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	config := s.Autoscaled(rig.Config{IdleCount: 1, MaxUseCount: 2, Policy: withState})
	first := s.beforeRestart(config)
	s.Launch(config)
	second := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(second)
	require.Equal(t, s.instanceOf(first), s.instanceOf(second))
	third := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(third)
	require.NotEqual(t, s.instanceOf(first), s.instanceOf(third), "the use before the restart was forgotten")
}

func TestARestartWithoutStateRemovesInstancesAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	config := s.Autoscaled(rig.Config{IdleCount: 1})
	first := s.beforeRestart(config)
	s.Launch(config)
	second := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(second)
	require.NotEqual(t, s.instanceOf(first), s.instanceOf(second))
	require.NotContains(t, s.Fleet.Alive(), s.instanceOf(first))
	s.AwaitLog("warning", "Instances that existed before this runner was started are removed", "[runners.autoscaler.state_storage]")
	s.AwaitLog("", "ready up preparation failed", "no data on pre-existing instance so removing for safety")
}

func TestAManagerKilledUnderLoadLosesNoInstanceAndLeavesNoOrphans(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.NewGate()
	config := s.Autoscaled(rig.Config{IdleCount: 2, Capacity: 2, Policy: withState})
	s.Launch(config)
	jobs := []*coordinator.Job{s.Running(gate), s.Running(gate)}
	instance := s.instanceOf(jobs[0])
	require.NoError(t, s.Manager.Signal(syscall.SIGKILL))
	<-s.Manager.Done()
	s.Eventually(soon, func() bool { return len(s.Plugins()) == 0 }, "the plugin outlived its manager")
	for _, job := range jobs {
		job.Fail("stuck_or_timeout_failure")
	}

	s.Launch(config)
	next := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(next)
	require.Equal(t, instance, s.instanceOf(next))
	s.Eventually(soon, func() bool {
		return len(s.InInstance(instance, "docker", "ps", "--all", "--quiet")) == 0
	}, "containers of the killed manager's jobs are left")
	s.Eventually(soon, func() bool {
		return len(s.InInstance(instance, "docker", "network", "ls", "--filter", "type=custom", "--quiet")) == 0
	}, "networks of jobs are left")
}
