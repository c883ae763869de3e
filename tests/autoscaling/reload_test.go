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
	gate := s.newGate()
	config := s.config(rig.Config{IdleCount: 1, MaxInstances: 2})
	s.start(s.Text(config))
	job := s.running(gate)
	s.awaitAlive(s.fleet, 2)
	config.IdleCount, config.MaxInstances = 4, 4
	s.reload(s.Text(config))
	next := s.running(gate)
	require.NotEqual(t, s.instanceOf(job), s.instanceOf(next))
	config.IdleCount, config.IdleTime = 0, time.Second
	s.reload(s.Text(config))
	gate.open()
	s.succeeds(job, next)
	s.awaitAlive(s.fleet, 0)
	require.Equal(t, 2, s.fleet.Most(), "max_instances is read at the start")
}

func TestAnEntryThatIsRemovedDrainsAndItsInstancesGo(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.newGate()
	s.start(s.Text(s.config(rig.Config{IdleCount: 1, MaxInstances: 2})))
	job := s.running(gate)
	s.reload("concurrent = 1\ncheck_interval = 1\n")
	s.awaitLog("The runner entry is gone from the configuration")
	require.Contains(t, s.fleet.Alive(), s.instanceOf(job))
	gate.open()
	s.succeeds(job)
	s.awaitAlive(s.fleet, 0)
	s.eventually(soon, func() bool { return s.plugins() == 0 }, "the plugin of the removed entry runs")
}

func TestARotatedTokenKeepsTheFleet(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.newGate()
	config := s.config(rig.Config{IdleCount: 2, Capacity: 2})
	s.start(s.Text(config))
	job := s.running(gate)
	// To the manager a token that is new in the file is a rotated one: the id is the same.
	config.Token = s.Coordinator.AddRunner(coordinator.RunnerSpec{RunUntagged: true})
	s.reload(s.Text(config))
	next := s.enqueue(coordinator.JobSpec{})
	s.succeeds(next)
	require.Equal(t, s.instanceOf(job), s.instanceOf(next))
	gate.open()
	s.succeeds(job)
	require.Len(t, s.fleet.Lives(), 1)
	require.Equal(t, 1, s.plugins())
}
