//go:build system

package system

import (
	"encoding/json"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// diagnosis is what the doctor says, by the name of the step.
type diagnosis map[string]struct{ State, Detail, Remedy string }

// doctor examines a configuration.
func (s *stage) doctor(c rig.Config, ok bool, args ...string) diagnosis {
	s.Helper()
	// A file of its own: that of a manager would be loaded anew.
	path := s.file("doctor.toml", s.Text(c), 0o600)
	out, err := s.Runner(s.Ctx, append([]string{"doctor", "--config", path, "--json"}, args...)...)
	var report struct {
		OK    bool
		Steps []struct{ Name, State, Detail, Remedy string }
	}
	// What else is printed comes after the line with the report.
	require.NoError(s, json.Unmarshal([]byte(firstLine(out)), &report), out)
	require.Equal(s, ok, report.OK, out)
	require.Equal(s, ok, err == nil, out)
	require.NotContains(s, out, s.Coordinator.RunnerToken())
	said := diagnosis{}
	for _, step := range report.Steps {
		said[step.Name] = struct{ State, Detail, Remedy string }{step.State, step.Detail, step.Remedy}
	}
	return said
}

func firstLine(text string) string {
	for i := range len(text) {
		if text[i] == '\n' {
			return text[:i]
		}
	}
	return text
}

// requireFailure requires that a step failed with a remedy, and that none was tried after it.
func (s *stage) requireFailure(said diagnosis, step, detail, remedy string, notTried ...string) {
	s.Helper()
	require.Equal(s, "fail", said[step].State, "%v", said)
	require.Contains(s, said[step].Detail, detail)
	require.Contains(s, said[step].Remedy, remedy)
	for _, other := range notTried {
		require.NotContains(s, said, other)
	}
}

func TestAnInterruptedDoctorLeavesNoInstance(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	path := s.file("doctor.toml", s.Text(s.Autoscaled(rig.Config{Plugin: `      boot_delay = "1m"`})), 0o600)
	cmd := exec.CommandContext(s.Ctx, s.Program("gitlab-runner"), "doctor", "--config", path, "--create")
	cmd.Env = s.Environment()
	require.NoError(t, cmd.Start())
	s.Instance()
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	s.Eventually(soon, func() bool { return len(s.Fleet.Alive()) == 0 }, "the instance is still there")
}

func TestDoctorOfAWorkingFleetAndOfBrokenOnes(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	good := s.Autoscaled(rig.Config{})

	// Without an instance there is little to look at, unless one may be made.
	said := s.doctor(good, true)
	require.Equal(t, "ok", said["gitlab"].State)
	require.Equal(t, "warn", said["instance"].State)
	require.Contains(t, said["instance"].Remedy, "--create")
	said = s.doctor(good, true, "--create")
	require.Equal(t, "ok", said["instance"].State)
	require.Contains(t, said["docker"].Detail, "Docker Engine ")
	require.Equal(t, "ok", said["helper image"].State)
	require.Contains(t, said["helper image"].Detail, "is loaded at the first job")
	s.Eventually(soon, func() bool { return len(s.Fleet.Alive()) == 0 }, "the instance that the doctor made is still there")

	wrong := good
	wrong.Token = "glrt-t3_not0a0token"
	s.requireFailure(s.doctor(wrong, false), "gitlab", "does not know the token", "register it again")

	wrong = good
	wrong.Plugin = `      image = "no-such-image:1"`
	s.requireFailure(s.doctor(wrong, false), "group", "no-such-image:1", "plugin_config", "instance")

	s.Extra = []string{"FLEETING_PLUGIN_PATH=" + t.TempDir()}
	s.requireFailure(s.doctor(good, false), "plugin", "plugin not found", "gitlab-runner fleeting install", "group")
	s.Extra = nil

	// With a manager at work the doctor looks at what it has.
	idle := good
	idle.IdleCount = 1
	s.Launch(idle)
	s.Succeeds(coordinator.JobSpec{})
	// A job without sources does not wait for the helper image.
	s.AwaitLog("info", "instance is warm")
	said = s.doctor(idle, true)
	require.Contains(t, said["group"].Detail, "1 running")
	require.Equal(t, "ok", said["instance"].State)
	require.Equal(t, "ok", said["docker"].State)
	require.Contains(t, said["helper image"].Detail, " is there")

	foreign := idle
	foreign.Connector = "      use_static_credentials = true\n      username = \"root\"\n      key_path = \"" + s.file("foreign-key", newKey(t), 0o600) + "\"\n"
	s.requireFailure(s.doctor(foreign, false), "instance", "unable to authenticate", "key_path", "docker")

	// An instance ends with its engine: this is one whose engine cannot be reached, and then one whose engine
	// does not answer.
	s.InInstance(s.Instance(), "mv", "/var/run/docker.sock", "/var/run/elsewhere.sock")
	s.requireFailure(s.doctor(idle, false), "docker", "Cannot connect to the Docker daemon", "docker version", "helper image")
	s.InInstance(s.Instance(), "mv", "/var/run/elsewhere.sock", "/var/run/docker.sock")
	s.InInstance(s.Instance(), "pkill", "-STOP", "dockerd")
	s.requireFailure(s.doctor(idle, false, "--timeout", "5s"), "docker", "--timeout", "docker version", "helper image")
	s.InInstance(s.Instance(), "pkill", "-CONT", "dockerd")
}
