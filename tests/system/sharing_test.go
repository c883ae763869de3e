//go:build system

package system

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestEightJobsAtOnceShareOneConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.NewGate()
	s.Launch(s.Autoscaled(rig.Config{Capacity: 8, IdleCount: 8, RequestConcurrency: 8}))
	var jobs []*coordinator.Job
	for range 8 {
		jobs = append(jobs, s.Enqueue(coordinator.JobSpec{Script: []string{gate.Wait}}))
	}
	s.Eventually(patience, func() bool { return gate.Held() == len(jobs) }, "the jobs are not running at once")
	require.Len(t, s.Fleet.Lives(), 1)
	require.Len(t, s.connections(s.Fleet.Lives()[0].Address), 1)
	gate.Open()
	s.AllSucceed(jobs...)
	require.Len(t, s.connections(s.Fleet.Lives()[0].Address), 1, "the connection is kept for later jobs")
	instance := s.Instance()
	s.Eventually(soon, func() bool { return len(s.objects(instance)) == 0 }, "objects are left on the instance")
}

func TestFeatureFlagChoosesTheTunnel(t *testing.T) {
	t.Parallel()
	for name, one := range map[string]struct {
		keys  string
		stdio bool
	}{
		"neither": {},
		"on":      {keys: "  environment = [\"FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO=true\"]", stdio: true},
		"off":     {keys: "  environment = [\"FF_USE_DOCKER_AUTOSCALER_DIAL_STDIO=false\"]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, coordinator.Config{})
			gate := s.NewGate()
			s.Launch(s.Autoscaled(rig.Config{IdleCount: 1, Keys: one.keys}))
			job := s.EnqueueWithSources(coordinator.JobSpec{Script: []string{"test -f VERSION", gate.Wait}})
			s.Eventually(patience, func() bool { return gate.Held() == 1 }, "the job does not get to its script")
			tunnels := s.InInstance(s.Instance(), "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[d]ocker system dial-stdio' || true")
			if one.stdio {
				require.NotEqual(t, []string{"0"}, tunnels)
			} else {
				require.Equal(t, []string{"0"}, tunnels)
			}
			gate.Open()
			s.AllSucceed(job)
		})
	}
}

// connections are the TCP connections from this machine to the SSH server at an address.
func (s *stage) connections(address string) []string {
	s.Helper()
	out, err := exec.CommandContext(s.Ctx, "ss", "--no-header", "--tcp", "--numeric", "state", "established", "dst", address, "dport", "=", "22").Output()
	require.NoError(s, err)
	if len(out) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
