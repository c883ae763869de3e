//go:build system

package system

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestBadReloadLeavesTheOldConfigurationInForce(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	config := rig.Config{Executor: "docker"}
	s.Launch(config)
	s.Succeeds(coordinator.JobSpec{Name: "before"})

	good := s.Text(config)
	require.NoError(t, s.WriteConfig(good+"\n[[runners]]\n  url = 7\n"))
	s.AwaitLog("error", "Failed to load config", "url")
	s.Succeeds(coordinator.JobSpec{Name: "meanwhile"})
	require.NoError(t, s.WriteConfig(strings.Replace(good, "rig-docker", "renamed", 1)))
	s.AwaitLoaded(2)
	record := s.Succeeds(coordinator.JobSpec{Name: "after"})
	require.Contains(t, plain(record), "  on renamed ")
}

func TestReloadFollowsPoliciesAndGivesUpRemovedEntries(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	config := s.Autoscaled(rig.Config{MaxInstances: 3})
	s.Launch(config)
	s.AwaitLog("info", "plugin initialized")
	require.Empty(t, s.Fleet.Lives())

	config.IdleCount = 2
	require.NoError(t, s.WriteConfig(s.Text(config)))
	require.NoError(t, s.Fleet.Await(s.Ctx, func(lives []rig.Life) bool { return len(lives) == 2 }))

	require.NoError(t, s.WriteConfig(s.Text(rig.Config{Executor: "docker"})))
	require.NoError(t, s.Fleet.Await(s.Ctx, func([]rig.Life) bool { return len(s.Fleet.Alive()) == 0 }))
	s.Eventually(soon, func() bool { return len(s.Plugins()) == 0 }, "the plugin of an entry that is gone still runs")
	s.Succeeds(coordinator.JobSpec{})
}
