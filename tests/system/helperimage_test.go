//go:build system

package system

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestHelperImageIsLoadedOncePerInstanceAndUsedOnlyWhereNeeded(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{Capacity: 2, IdleCount: 2}))

	const without, with = 2, 4
	var plainJobs, jobs []*coordinator.Job
	for i := range without {
		plainJobs = append(plainJobs, s.Enqueue(coordinator.JobSpec{Name: fmt.Sprintf("script only %d", i), Script: []string{"true"}}))
	}
	for i := range with {
		jobs = append(jobs, s.EnqueueWithSources(coordinator.JobSpec{Name: fmt.Sprintf("sources %d", i), Script: []string{"test -f VERSION"}}))
	}
	s.AllSucceed(append(plainJobs, jobs...)...)

	instance := s.Instance()
	s.Eventually(soon, func() bool { return len(s.objects(instance)) == 0 }, "objects are left on the instance")
	loaded := s.events(instance, "{{.Action}}", "type=image", "event=load")
	require.Len(t, loaded, 1, "the helper image was not loaded once, through the tunnel")
	created := map[string]map[string]int{}
	for _, line := range s.events(instance, `{{index .Actor.Attributes "`+jobLabel+`"}} {{index .Actor.Attributes "com.gitlab.gitlab-runner.type"}}`, "type=container", "event=create") {
		job, kind, _ := strings.Cut(line, " ")
		if created[job] == nil {
			created[job] = map[string]int{}
		}
		created[job][kind]++
	}
	for _, job := range plainJobs {
		require.Equal(t, map[string]int{"build": 1}, created[fmt.Sprint(job.ID())], "containers of a job that only runs a script")
	}
	for _, job := range jobs {
		require.Equal(t, map[string]int{"build": 1, "predefined": 1}, created[fmt.Sprint(job.ID())], "containers of a job with sources")
	}
}

// events are what the engine of an instance told since it started.
func (s *stage) events(instance, format string, filters ...string) []string {
	s.Helper()
	args := []string{"docker", "events", "--since", "0", "--until", fmt.Sprint(time.Now().Unix() + 1), "--format", format}
	for _, filter := range filters {
		args = append(args, "--filter", filter)
	}
	return s.InInstance(instance, args...)
}
