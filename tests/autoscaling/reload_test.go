//go:build system

package autoscaling

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestAPolicyIsInForceAfterAReloadAndMaxInstancesAfterARestart(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.NewGate()
	config := s.Autoscaled(rig.Config{IdleCount: 1, MaxInstances: 2})
	s.Launch(config)
	job := s.Running(gate)
	s.awaitAlive(2)
	config.IdleCount, config.MaxInstances = 4, 4
	s.Reload(s.Text(config))
	next := s.Running(gate)
	require.NotEqual(t, s.instanceOf(job), s.instanceOf(next))
	config.IdleCount, config.IdleTime = 0, time.Second
	s.Reload(s.Text(config))
	gate.Open()
	s.AllSucceed(job, next)
	s.awaitAlive(0)
	require.Equal(t, 2, s.Fleet.Most(), "max_instances is read at the start")
}

func TestAnEntryThatIsRemovedDrainsAndItsInstancesGo(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.NewGate()
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1, MaxInstances: 2}))
	job := s.Running(gate)
	s.Reload("concurrent = 1\ncheck_interval = 1\n")
	s.AwaitLog("", "The runner entry is gone from the configuration")
	require.Contains(t, s.Fleet.Alive(), s.instanceOf(job))
	gate.Open()
	s.AllSucceed(job)
	s.awaitAlive(0)
	s.Eventually(soon, func() bool { return len(s.Plugins()) == 0 }, "the plugin of the removed entry runs")
}

func TestARotatedTokenKeepsTheFleet(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.NewGate()
	config := s.Autoscaled(rig.Config{IdleCount: 2, Capacity: 2})
	s.Launch(config)
	job := s.Running(gate)
	// To the manager a token that is new in the file is a rotated one: the id is the same.
	config.Token = s.Coordinator.AddRunner(coordinator.RunnerSpec{RunUntagged: true})
	s.Reload(s.Text(config))
	next := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(next)
	require.Equal(t, s.instanceOf(job), s.instanceOf(next))
	gate.Open()
	s.AllSucceed(job)
	require.Len(t, s.Fleet.Lives(), 1)
	require.Len(t, s.Plugins(), 1)
}
