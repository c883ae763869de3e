//go:build system

package autoscaling

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestSlotsHaveCgroupsAndCacheVolumesOfTheirOwn(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.NewGate()
	const slots = 3
	s.Launch(s.Autoscaled(rig.Config{IdleCount: slots, Capacity: slots, Keys: "  use_slot_cgroups = true", Docker: `    volumes = ["/cache"]`}))
	var jobs []*coordinator.Job
	for range slots {
		jobs = append(jobs, s.Enqueue(coordinator.JobSpec{Script: []string{
			"echo cgroup=$GITLAB_RUNNER_SLOT_CGROUP=", "test ! -e /cache/mine", "touch /cache/mine", gate.Wait,
		}}))
	}
	s.Eventually(2*soon, func() bool { return gate.Held() == slots }, "the jobs are not running at once")

	instance := s.instanceOf(jobs[0])
	const show = "{{.HostConfig.CgroupParent}}{{range .Mounts}}{{if eq .Destination \"/cache\"}} {{.Name}}{{end}}{{end}}"
	containers := s.InInstance(instance, "docker", "ps", "--quiet", "--filter", "label=com.gitlab.gitlab-runner.type=build")
	shown := s.InInstance(instance, append([]string{"docker", "inspect", "--format", show}, containers...)...)
	parents, caches := map[string]bool{}, map[string]bool{}
	for _, line := range shown {
		parent, cache, ok := strings.Cut(line, " ")
		require.True(t, ok, "no cache volume: %q", line)
		parents[parent], caches[cache] = true, true
	}
	want := map[string]bool{}
	for slot := range slots {
		want[fmt.Sprintf("gitlab-runner/slot-%d", slot)] = true
	}
	require.Equal(t, want, parents)
	require.Len(t, caches, slots)
	gate.Open()
	s.AllSucceed(jobs...)
	told := map[string]bool{}
	for _, job := range jobs {
		_, rest, _ := strings.Cut(coordinator.PlainLog(job.Trace()), "cgroup=gitlab")
		value, _, _ := strings.Cut(rest, "=")
		told["gitlab"+value] = true
	}
	require.Equal(t, want, told)
}

func TestTwoEntriesOnTwoGroupsKeepToThemselves(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	other := s.Group + "-b"
	second, err := s.Follow(other)
	require.NoError(t, err)
	one := s.Autoscaled(rig.Config{Name: "one", IdleCount: 2, Capacity: 2})
	two := s.Autoscaled(rig.Config{Name: "two", ID: 2, IdleCount: 2, Capacity: 2, Token: s.Coordinator.AddRunner(coordinator.RunnerSpec{RunUntagged: true})})
	two.Group = other
	s.LaunchText(s.Text(one) + s.Entry(two))
	const number = 16
	jobs := make([]*coordinator.Job, 0, number)
	for range number {
		jobs = append(jobs, s.Enqueue(coordinator.JobSpec{Script: []string{"sleep 1"}}))
	}
	s.AllSucceed(jobs...)
	on := map[string]int{}
	for _, job := range jobs {
		on[s.instanceOf(job)]++
	}
	require.Len(t, s.Fleet.Lives(), 1)
	require.Len(t, second.Lives(), 1)
	require.Positive(t, on[s.Fleet.Lives()[0].Name])
	require.Positive(t, on[second.Lives()[0].Name])
	require.Len(t, s.Plugins(), 2)
}
