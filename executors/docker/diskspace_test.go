package docker

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/volume"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
)

func TestTheOutputOfDfIsReadWithCare(t *testing.T) {
	for output, want := range map[string]disk{
		"Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 1000 900 100 90% /builds\n": {total: 1000 << 10, used: 900 << 10},
		"": {}, "\n": {}, "nonsense": {},
		"/dev/vda x y z 90% /builds":                    {},
		"/dev/vda 1000 2000 0 200% /builds":             {},
		"/dev/vda 99999999999999999999 1 0 1% /builds":  {},
		"/dev/vda 1125899906842625 1 1125 0% /builds x": {},
	} {
		require.Equal(t, want, parseDisk(output), output)
	}
}

func TestExcessIsWhatIsAboveTheLowWaterMark(t *testing.T) {
	require.Zero(t, disk{}.excess())
	require.Zero(t, disk{total: 1000, used: 849}.excess())
	require.EqualValues(t, 150, disk{total: 1000, used: 850}.excess())
}

func cacheVolume(name string, size, users int64, created string) *volume.Volume {
	return &volume.Volume{
		Name: name, CreatedAt: created, UsageData: &volume.UsageData{Size: size, RefCount: users},
		Labels: map[string]string{blueprint.LabelManaged: "true", blueprint.LabelReusable: "true"},
	}
}

func TestTheLongestUnusedVolumesGoFirst(t *testing.T) {
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	engine := has(newFakeEngine(shell), "ruby:3", helperName)
	engine.volumes = []*volume.Volume{
		cacheVolume("old", 40, 0, "2025-01-01T00:00:00Z"),
		cacheVolume("old-but-used", 40, 0, "2024-01-01T00:00:00Z"),
		cacheVolume("newer", 40, 0, "2025-06-01T00:00:00Z"),
		cacheVolume("in-use", 40, 1, "2020-01-01T00:00:00Z"),
		{Name: "not-ours", CreatedAt: "2019-01-01T00:00:00Z"},
	}
	r := rehearse(t, engine, func(job *common.Job) {})
	r.machine.touch(base, "old-but-used")
	r.makeRoom(t.Context(), disk{total: 1000, used: 750})
	require.NotContains(t, engine.log(), "remove volume", "there is room")
	r.makeRoom(t.Context(), disk{total: 300, used: 270})
	require.Equal(t, []string{"old", "newer"}, engine.removedVolumes)
	require.NoError(t, r.Cleanup(t.Context()))
}

func TestADiskIsLookedAtNowAndThen(t *testing.T) {
	m := newMachines().enter("m", 1)
	now := time.Now()
	require.True(t, m.diskDue(now))
	require.False(t, m.diskDue(now.Add(diskInterval/2)))
	require.True(t, m.diskDue(now.Add(2*diskInterval)))
}
