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
	s.start(config)
	s.succeeds(coordinator.JobSpec{Name: "before"})

	good := s.Text(config)
	require.NoError(t, s.WriteConfig(good+"\n[[runners]]\n  url = 7\n"))
	s.awaitLog("error", "Failed to load config", "url")
	s.succeeds(coordinator.JobSpec{Name: "meanwhile"})
	require.NoError(t, s.WriteConfig(strings.Replace(good, "rig-docker", "renamed", 1)))
	s.awaitLoaded(2)
	record := s.succeeds(coordinator.JobSpec{Name: "after"})
	require.Contains(t, plain(record), "  on renamed ")
}

func TestReloadFollowsPoliciesAndGivesUpRemovedEntries(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	config := s.autoscaled(rig.Config{MaxInstances: 3})
	s.start(config)
	s.awaitLog("info", "plugin initialized")
	require.Empty(t, s.fleet.Lives())

	config.IdleCount = 2
	require.NoError(t, s.WriteConfig(s.Text(config)))
	require.NoError(t, s.fleet.Await(s.ctx, func(lives []rig.Life) bool { return len(lives) == 2 }))

	require.NoError(t, s.WriteConfig(s.Text(rig.Config{Executor: "docker"})))
	require.NoError(t, s.fleet.Await(s.ctx, func([]rig.Life) bool { return len(s.fleet.Alive()) == 0 }))
	s.eventually(soon, func() bool { return s.plugin() == 0 }, "the plugin of an entry that is gone still runs")
	s.succeeds(coordinator.JobSpec{})
}

// awaitLoaded waits until the configuration was loaded so many times.
func (s *stage) awaitLoaded(times int) {
	s.Helper()
	loaded := 0
	_, err := s.manager.Await(s.ctx, func(e rig.Entry) bool {
		if e.Text("msg") == "Configuration loaded" {
			loaded++
		}
		return loaded == times
	})
	require.NoError(s, err)
}
