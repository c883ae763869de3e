//go:build system

package system

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

// machine is a container with an init of its own, on which the runner is installed as a service. Its
// jobs run on the engine of this machine.
type machine struct {
	*stage
	container string
}

// newMachine boots an image; see scripts/images. Its engine is this machine's.
func (s *stage) newMachine(image, boot string) *machine {
	s.Helper()
	m := &machine{stage: s, container: "machine-" + s.Group}
	args := []string{
		"run", "--detach", "--name", m.container, "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
		"--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--volume", "/var/run/docker.sock:/srv/docker.sock", image,
	}
	// Cgroups are read-only in containers that are not privileged, and machines that test are often
	// not allowed to start privileged ones.
	args = append(args, "sh", "-c", "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,rw $d 2>/dev/null; done; exec /sbin/init")
	m.engine(args...)
	s.Cleanup(func() { _ = exec.Command("docker", "rm", "--force", "--volumes", m.container).Run() })
	m.engine("cp", s.Program("gitlab-runner"), m.container+":/usr/bin/gitlab-runner")
	s.Eventually(soon*3, func() bool { _, err := m.try(boot); return err == nil }, "the machine did not boot")
	m.sh("groupadd --non-unique --gid $(stat -c %g /srv/docker.sock) engine; useradd --create-home --groups engine ci")
	text := fmt.Sprintf("concurrent = 1\ncheck_interval = 1\n[[runners]]\nname = \"service\"\nurl = %q\ntoken = %q\nexecutor = \"docker\"\n[runners.docker]\nhost = \"unix:///srv/docker.sock\"\nimage = \"busybox:latest\"\npull_policy = \"if-not-present\"\n",
		s.Coordinator.URL(), s.Coordinator.RunnerToken())
	m.sh("umask 077 && cat >/home/ci/config.toml <<'EOT'\n" + text + "EOT\nchown ci /home/ci/config.toml")
	return m
}

func (m *machine) engine(args ...string) {
	m.Helper()
	out, err := exec.CommandContext(m.Ctx, "docker", args...).CombinedOutput()
	require.NoError(m, err, "%s", out)
}

// try runs a script on the machine; it returns what it printed.
func (m *machine) try(script string) (string, error) {
	out, err := exec.CommandContext(m.Ctx, "docker", "exec", m.container, "sh", "-c", script).CombinedOutput()
	return string(out), err
}

func (m *machine) sh(script string) string {
	m.Helper()
	out, err := m.try(script)
	require.NoError(m, err, "%s: %s", script, out)
	return out
}

// refuses runs what must fail with exit code 1.
func (m *machine) refuses(script string) string {
	m.Helper()
	out, err := m.try(script)
	var exit *exec.ExitError
	require.ErrorAs(m, err, &exit, "%s: %s", script, out)
	require.Equal(m, 1, exit.ExitCode(), out)
	return out
}

// process is the runner's id and user on the machine.
func (m *machine) process() (pid, user string) {
	out, err := m.try("ps -C gitlab-runner -o pid=,user=,args= | grep ' run '")
	if fields := strings.Fields(out); err == nil && len(fields) > 1 {
		return fields[0], fields[1]
	}
	return "", ""
}

// running waits until the runner is there as the user it is to run as, and returns its id. An init says that it started
// a service before that has become another user, and the program.
func (m *machine) running() string {
	m.Helper()
	var pid string
	m.Eventually(soon, func() bool {
		var user string
		pid, user = m.process()
		return user == "ci"
	}, "the runner does not run as ci")
	return pid
}

const installService = "cd / && gitlab-runner install --init-user ci --config /home/ci/config.toml --working-directory /home/ci"

func TestServiceUnderSystemdFromInstallToUninstall(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	m := s.newMachine("init-systemd:local", "systemctl is-system-running")
	gate := s.NewGate()

	require.Contains(t, m.refuses("gitlab-runner status"), "gitlab-runner: the service is not installed")
	require.Contains(t, m.refuses("gitlab-runner install"), "--init-user")
	require.Contains(t, m.refuses("gitlab-runner install --user a --init-user ci"), "exclude each other")
	m.sh(installService)
	require.Contains(t, m.refuses(installService), "already exists")
	require.Equal(t, "enabled\n", m.sh("systemctl is-enabled gitlab-runner"))
	require.Empty(t, m.sh("systemd-analyze verify /etc/systemd/system/gitlab-runner.service 2>&1 | grep gitlab-runner.service || true"))
	require.Contains(t, m.refuses("gitlab-runner status"), "gitlab-runner: Service has stopped")

	// What an administrator adds to the unit: graceful stops, readiness, and no two minutes of waiting
	// after a crash.
	m.sh("mkdir -p /etc/systemd/system/gitlab-runner.service.d && printf '[Service]\\nType=notify\\nKillSignal=SIGQUIT\\nTimeoutStopSec=120\\nRestartSec=1\\n' >/etc/systemd/system/gitlab-runner.service.d/site.conf && systemctl daemon-reload")
	m.sh("gitlab-runner start")
	require.Equal(t, "gitlab-runner: Service is running\n", m.sh("gitlab-runner status"))
	require.Equal(t, "StatusText=running\n", m.sh("systemctl show -p StatusText gitlab-runner"))
	m.running()

	job := s.Running(gate)
	stopped := make(chan error, 1)
	go func() { _, err := m.try("gitlab-runner stop"); stopped <- err }()
	s.Eventually(soon, func() bool {
		return strings.Contains(m.sh("systemctl show -p StatusText gitlab-runner"), "graceful-shutdown")
	}, "the stop was not a graceful one")
	next := s.Enqueue(coordinator.JobSpec{Script: []string{"true"}})
	gate.Open()
	s.AllSucceed(job)
	require.NoError(t, <-stopped)
	require.Equal(t, coordinator.StatePending, next.State())
	m.refuses("gitlab-runner status")

	m.sh("gitlab-runner start")
	s.AllSucceed(next)
	pid := m.running()
	m.sh("kill -9 " + pid)
	s.Eventually(soon*2, func() bool { again, _ := m.process(); return again != "" && again != pid }, "the runner was not started again after a crash")
	s.Succeeds(coordinator.JobSpec{})
	pid = m.running()
	m.sh("gitlab-runner restart")
	require.NotEqual(t, pid, m.running())

	m.sh("gitlab-runner stop && gitlab-runner uninstall")
	require.Contains(t, m.refuses("gitlab-runner status"), "not installed")
	m.refuses("gitlab-runner uninstall")
	require.NotContains(t, m.sh("ls /etc/systemd/system /etc/systemd/system/multi-user.target.wants"), "gitlab-runner.service\n")
	require.NotContains(t, m.sh("journalctl --no-pager"), s.Coordinator.RunnerToken())
}

func TestServiceUnderSysVInitFromInstallToUninstall(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	m := s.newMachine("init-sysvinit:local", "runlevel | grep 2")
	gate := s.NewGate()

	m.sh(installService)
	require.Contains(t, m.refuses("gitlab-runner status"), "gitlab-runner: Service has stopped")
	m.sh("gitlab-runner start")
	require.Equal(t, "gitlab-runner: Service is running\n", m.sh("gitlab-runner status"))
	m.running()

	job := s.Running(gate)
	m.sh("service gitlab-runner reload")
	s.Eventually(soon, func() bool {
		return strings.Count(m.sh("cat /var/log/gitlab-runner.err"), "Configuration loaded") == 2
	}, "the reload did not reach the runner")
	m.sh("gitlab-runner stop")
	s.RequireState(s.Ended(job), coordinator.StateFailed, "runner_interrupted")
	require.Contains(t, m.refuses("gitlab-runner status"), "Service has stopped")

	m.sh("gitlab-runner start")
	pid := m.running()
	m.sh("kill -9 " + pid)
	s.Eventually(soon, func() bool { again, _ := m.process(); return again == "" }, "the process outlived SIGKILL")
	require.Contains(t, m.refuses("gitlab-runner status"), "Service has stopped")
	m.sh("gitlab-runner start")
	gate.Open()
	s.Succeeds(coordinator.JobSpec{})
	m.sh("gitlab-runner restart")
	m.sh("gitlab-runner stop && gitlab-runner uninstall")
	require.Contains(t, m.refuses("gitlab-runner status"), "gitlab-runner: ")
	m.refuses("gitlab-runner start")
	require.NotContains(t, m.sh("cat /var/log/gitlab-runner.*"), s.Coordinator.RunnerToken())
}
