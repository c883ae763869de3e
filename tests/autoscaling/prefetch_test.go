//go:build system

package autoscaling

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// localImage is one of some size.
const localImage = "debian-job:local"

func TestImagesAreThereBeforeTheFirstJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	registry, err := s.StartRegistry()
	require.NoError(t, err)
	image, err := registry.Push(localImage, localImage)
	require.NoError(t, err)
	host, _, _ := strings.Cut(image, "/")
	insecure := fmt.Sprintf("      engine_config = {insecure-registries = [%q]}\n", host)

	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1, Plugin: insecure}))
	s.AwaitLog("", "instance is warm")
	without := s.toFirstCommand(image)
	s.Stop()

	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1, Plugin: insecure, Autoscaler: fmt.Sprintf("    prefetch_images = [%q]", image)}))
	s.AwaitLog("", "image is on the instance ahead of its jobs", image)
	with := s.toFirstCommand(image)
	s.Stop()

	// The jobs on the first instance teach what the second one gets: an image of one job alone would not.
	recent := s.Autoscaled(rig.Config{MaxUseCount: 2, IdleCount: 1, Plugin: insecure, Autoscaler: "    prefetch_recent_images = 2"})
	s.Launch(recent)
	s.AllSucceed(s.Enqueue(coordinator.JobSpec{Image: coordinator.Image{Name: image}}))
	s.AllSucceed(s.Enqueue(coordinator.JobSpec{Image: coordinator.Image{Name: image}}))
	s.AwaitLog("", "image is on the instance ahead of its jobs", image)
	t.Logf("from hand-out to the first command: %s without prefetch_images, %s with", without, with)
	require.Less(t, with, without)
}

// toFirstCommand runs a job and returns how long after its hand-out its script began, by the time the
// first output of the script was received.
func (s *stage) toFirstCommand(image string) time.Duration {
	s.Helper()
	job := s.Enqueue(coordinator.JobSpec{Image: coordinator.Image{Name: image}, Script: []string{"echo $((40 + 2))"}})
	s.AllSucceed(job)
	record := job.Record()
	for line := range strings.Lines(string(record.Trace)) {
		// The script's own streams have another number than the runner's.
		stamp, rest, _ := strings.Cut(line, " ")
		if at, err := time.Parse(time.RFC3339Nano, stamp); err == nil && strings.HasPrefix(rest, "01O") {
			return at.Sub(record.Times.HandedOut)
		}
	}
	require.Fail(s, "the script wrote nothing", "%s", record.Trace)
	return 0
}
