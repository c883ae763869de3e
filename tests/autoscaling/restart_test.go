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

func TestARestartWithStateKeepsIdleInstancesAndTheirUseCounts(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	config := s.config(rig.Config{IdleCount: 1, MaxUseCount: 2, Policy: withState})
	config.DeleteOnShutdown = false
	s.start(s.Text(config))
	first := s.enqueue(coordinator.JobSpec{})
	s.succeeds(first)
	s.stop()
	require.Len(t, s.fleet.Alive(), 1)

	config.DeleteOnShutdown = true
	s.start(s.Text(config))
	second := s.enqueue(coordinator.JobSpec{})
	s.succeeds(second)
	require.Equal(t, s.instanceOf(first), s.instanceOf(second))
	third := s.enqueue(coordinator.JobSpec{})
	s.succeeds(third)
	require.NotEqual(t, s.instanceOf(first), s.instanceOf(third), "the use before the restart was forgotten")
}

func TestARestartWithoutStateRemovesInstancesAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	config := s.config(rig.Config{IdleCount: 1})
	config.DeleteOnShutdown = false
	s.start(s.Text(config))
	first := s.enqueue(coordinator.JobSpec{})
	s.succeeds(first)
	s.stop()
	require.Len(t, s.fleet.Alive(), 1)

	config.DeleteOnShutdown = true
	s.start(s.Text(config))
	second := s.enqueue(coordinator.JobSpec{})
	s.succeeds(second)
	require.NotEqual(t, s.instanceOf(first), s.instanceOf(second))
	require.NotContains(t, s.fleet.Alive(), s.instanceOf(first))
	s.awaitLog("warning", "Instances that existed before this runner was started are removed", "[runners.autoscaler.state_storage]")
	s.awaitLog("ready up preparation failed", "no data on pre-existing instance so removing for safety")
}

func TestAManagerKilledUnderLoadLosesNoInstanceAndLeavesNoOrphans(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.newGate()
	config := s.config(rig.Config{IdleCount: 2, Capacity: 2, Policy: withState})
	s.start(s.Text(config))
	jobs := []*coordinator.Job{s.running(gate), s.running(gate)}
	instance := s.instanceOf(jobs[0])
	require.NoError(t, s.manager.Signal(syscall.SIGKILL))
	<-s.manager.Done()
	s.eventually(soon, func() bool { return s.plugins() == 0 }, "the plugin outlived its manager")
	for _, job := range jobs {
		job.Fail("stuck_or_timeout_failure")
	}

	s.start(s.Text(config))
	next := s.enqueue(coordinator.JobSpec{})
	s.succeeds(next)
	require.Equal(t, instance, s.instanceOf(next))
	s.eventually(soon, func() bool {
		return len(s.inInstance(instance, "docker", "ps", "--all", "--quiet")) == 0
	}, "containers of the killed manager's jobs are left")
	s.eventually(soon, func() bool {
		return len(s.inInstance(instance, "docker", "network", "ls", "--filter", "type=custom", "--quiet")) == 0
	}, "networks of jobs are left")
}
