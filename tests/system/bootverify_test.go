//go:build system

package system

import (
	"io"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// verifying are the keys of an entry that is verified at boot.
const verifying = "  [runners.experimental.boot_verify]\n    enabled = true\n    timeout = \"2m\"\n"

// readiness asks a manager, which must listen on a port of its own choice, whether it is ready.
func (s *stage) readiness() (int, string) {
	s.Helper()
	address := s.AwaitLog("info", "Metrics server listening").Text("address")
	client := http.Client{Timeout: soon}
	answer, err := client.Get("http://" + address + "/health/ready")
	require.NoError(s, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
	require.NoError(s, err)
	return answer.StatusCode, string(text)
}

// firstRequest is when GitLab was asked for the first job, the zero time if it never was.
func (s *stage) firstRequest() time.Time {
	for _, request := range s.Coordinator.Requests() {
		if request.Endpoint == coordinator.EndpointRequestJob {
			return request.Time
		}
	}
	return time.Time{}
}

func TestJobsAreAskedForWhenAnInstanceRanTheVerificationsJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	job := s.Enqueue(coordinator.JobSpec{Script: []string{"echo a real job"}})
	s.Launch(s.Autoscaled(rig.Config{
		Keys: verifying, Docker: `    volumes = ["/cache"]`, Plugin: `      boot_delay = "3s"`, IdleTime: time.Hour,
	}), "--listen-address", "127.0.0.1:0")
	code, text := s.readiness()
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "boot-verify pending\n", text)

	entry := s.AwaitLog("info", "Boot verification succeeded")
	require.Equal(t, "rig-docker-autoscaler", entry.Text("runner_name"))
	require.NotEmpty(t, entry.Text("duration_s"))
	succeeded, err := time.Parse(time.RFC3339Nano, entry.Text("time"))
	require.NoError(t, err)
	record := s.Ended(job)
	s.RequireState(record, coordinator.StateSuccess, "")
	require.Contains(t, plain(record), "a real job")
	require.True(t, s.firstRequest().After(succeeded), "a job was asked for at %s, before the entry was verified at %s", s.firstRequest(), succeeded)
	code, text = s.readiness()
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, "ready\n", text)

	instance := s.Instance()
	require.Len(t, s.Fleet.Lives(), 1, "the job had another instance than the verification")
	// The job's cache is kept, the verification's is not.
	require.Len(t, s.InInstance(instance, "docker", "volume", "ls", "--quiet"), 1)
	require.Empty(t, s.objects(instance))
	s.Stop()
}

func TestAVerificationThatFailsEndsTheProcessBeforeAnyRequest(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	job := s.Enqueue(coordinator.JobSpec{Script: []string{"true"}})
	text := strings.Replace(s.Text(s.Autoscaled(rig.Config{Keys: verifying})), `image = "busybox:latest"`, `image = "localhost:1/not/there:1"`, 1)
	require.NoError(t, s.WriteConfig(text))
	s.Start("--listen-address", "127.0.0.1:0")
	told := s.AwaitLog("error", "Boot verification")
	require.ErrorContains(t, s.Manager.Wait(s.Ctx), "exit status 1")
	for _, part := range []string{
		`runner "rig-docker-autoscaler"`, "failed at stage prepare_executor", "localhost:1/not/there:1", "no job is asked for",
		"check whether the engine reaches the registries of image and helper_image", `gitlab-runner doctor --name "rig-docker-autoscaler"`,
	} {
		require.Contains(t, told.Text("msg"), part)
	}
	require.Empty(t, s.Coordinator.Requests(), "GitLab was spoken to")
	require.Equal(t, coordinator.StatePending, job.State())
	log := s.Manager.LogText()
	require.Contains(t, log, "The last lines of the boot verification's job:")
	require.Contains(t, log, `"level":"fatal","msg":"the boot verification failed: runner \"rig-docker-autoscaler\""`)
	require.Equal(t, 1, strings.Count(log, `"level":"error"`), log)
	require.NotContains(t, log, s.Coordinator.RunnerToken())
	require.Empty(t, s.Fleet.Alive(), "instances outlived the manager")
	require.NotEmpty(t, s.Fleet.Lives(), "it was not tried on an instance")
	// How it ended was looked at.
	s.Manager = nil
}

func TestAStopDuringTheVerificationLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGQUIT": syscall.SIGQUIT} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t, coordinator.Config{})
			gate := s.NewGate()
			s.Launch(s.Autoscaled(rig.Config{Keys: "  pre_build_script = \"" + gate.Wait + "\"\n" + verifying}))
			s.Eventually(patience, func() bool { return gate.Held() == 1 }, "the verification's job did not come to its script")
			began := time.Now()
			require.NoError(t, s.Manager.Signal(signal))
			require.NoError(t, s.Manager.Wait(s.Ctx))
			require.Less(t, time.Since(began), 30*time.Second)
			require.Empty(t, s.Coordinator.Requests())
			require.Empty(t, s.Fleet.Alive(), "instances outlived the manager")
		})
	}
}

func TestSystemdWaitsForTheVerificationForLongerThanItsOwnTimeout(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	m := s.newMachine("init-systemd:local", "systemctl is-system-running")
	m.sh("mkdir -p /usr/lib/gitlab-runner")
	m.engine("cp", s.Root()+"/out/helper-images", m.container+":/usr/lib/gitlab-runner/helper-images")
	m.sh(installService)
	m.sh("mkdir -p /etc/systemd/system/gitlab-runner.service.d && printf '[Service]\\nType=notify\\nTimeoutStartSec=3\\n' >/etc/systemd/system/gitlab-runner.service.d/site.conf && systemctl daemon-reload")
	m.sh(`sed -i 's/^executor/pre_build_script = "sleep 6"\n&/' /home/ci/config.toml && printf 'volumes = ["/cache"]\n[runners.experimental.boot_verify]\nenabled = true\n' >>/home/ci/config.toml`)

	began := time.Now()
	m.sh("systemctl start gitlab-runner")
	require.Greater(t, time.Since(began), 6*time.Second, "systemd was told too early that the runner is ready")
	require.Equal(t, "StatusText=running\n", m.sh("systemctl show -p StatusText gitlab-runner"))
	require.Contains(t, m.sh("journalctl --no-pager --unit gitlab-runner"), "Boot verification succeeded")
	m.sh("gitlab-runner stop")
	kept, err := exec.CommandContext(s.Ctx, "docker", "volume", "ls", "--quiet", "--filter", "label=com.gitlab.gitlab-runner.project.id=0").Output()
	require.NoError(t, err)
	require.Empty(t, string(kept), "the verification left a cache on the engine")
}
