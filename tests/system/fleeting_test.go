//go:build system

package system

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// otherArch is one that this machine is not.
func otherArch() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

// market is a registry with a place to install to.
type market struct {
	*stage
	registry *rig.PrivateRegistry
	// plugins is the plugin directory, logins docker's configuration.
	plugins, logins string
}

func newMarket(t *testing.T) *market {
	t.Helper()
	m := &market{stage: newStage(t, coordinator.Config{}), plugins: t.TempDir(), logins: t.TempDir()}
	var err error
	m.registry, err = rig.StartPrivateRegistry(m.Ctx, t.TempDir())
	require.NoError(t, err)
	t.Cleanup(m.registry.Close)
	m.Extra = []string{"FLEETING_PLUGIN_PATH=" + m.plugins, "DOCKER_CONFIG=" + m.logins}
	return m
}

// name is the docker plugin as it stands in a configuration.
func (m *market) name(constraint string) string {
	return m.registry.Host + "/team/plugins/docker:" + constraint
}

// call runs a command and returns what it printed to each stream.
func (m *market) call(stdin string, program string, args ...string) (stdout, stderr string, err error) {
	m.Helper()
	cmd := exec.CommandContext(m.Ctx, program, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = m.Root(), m.Environment(), strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	require.NotContains(m, out.String()+errs.String(), m.registry.Password)
	return out.String(), errs.String(), err
}

func (m *market) fleeting(args ...string) (stdout, stderr string, err error) {
	m.Helper()
	return m.call("", m.Program("gitlab-runner"), append([]string{"fleeting", "--config", m.ConfigPath()}, args...)...)
}

func (m *market) login() {
	m.Helper()
	out, errs, err := m.call(m.registry.Password+"\n", m.Program("gitlab-runner"),
		"fleeting", "login", "--username", m.registry.Username, "--password-stdin", m.registry.Host)
	require.NoError(m, err, errs)
	require.Contains(m, out, filepath.Join(m.logins, "config.json"))
}

// release publishes the docker plugin to the registry and returns the layout.
func (m *market) release(version string, platforms ...string) string {
	m.Helper()
	layout := filepath.Join(m.Dir, "layout")
	out, errs, err := m.call("", "go", "run", "./scripts/release-plugins",
		"-version", version, "-ldflags", "-s -w -X main.version="+version, "-plugins", "docker",
		"-platforms", strings.Join(platforms, ","), "-out", layout, "-registry", m.registry.Host+"/team/plugins")
	require.NoError(m, err, errs)
	require.Contains(m, out, "MB")
	return layout
}

func TestAReleasedPluginIsInstalledFromAPrivateRegistryAndStarted(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	here, other := "linux/"+runtime.GOARCH, "linux/"+otherArch()
	settings := m.Autoscaled(rig.Config{IdleCount: 1})
	second := settings
	second.Name, second.ID, second.Token = "second", 2, "glrt-t3_second0token0of0a0runner"
	second.Group = settings.Group + "-second"
	text := strings.ReplaceAll(m.Text(settings)+m.Entry(second), `plugin = "docker"`, `plugin = "`+m.name("0.3")+`"`)
	require.NoError(t, m.WriteConfig(text))

	out, errs, err := m.fleeting("install")
	require.Error(t, err)
	require.Empty(t, out)
	require.Contains(t, errs, "gitlab-runner fleeting login "+m.registry.Host)
	_, errs, err = m.call("guess", m.Program("gitlab-runner"), "fleeting", "login", "--username", m.registry.Username, "--password-stdin", m.registry.Host)
	require.Error(t, err)
	require.Contains(t, errs, "check name and password")
	require.NoFileExists(t, filepath.Join(m.logins, "config.json"))
	m.login()
	info, err := os.Stat(filepath.Join(m.logins, "config.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	_, errs, err = m.fleeting("list")
	require.Error(t, err)
	require.Contains(t, errs, "plugin not found")

	m.release("0.3.0", here, other)
	out, errs, err = m.fleeting("install")
	require.NoError(t, err, errs)
	installed := filepath.Join(m.plugins, m.registry.Host, "team", "plugins", "docker", "0.3.0", "plugin")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Len(t, lines, 2, out)
	require.Equal(t, "runner: second0to, plugin: "+m.name("0.3")+", path: "+installed, lines[1])
	require.NotContains(t, out+errs, "\x1b[1K", "nothing is drawn where there is no terminal")

	m.release("0.3.1", here, other)
	out, errs, err = m.fleeting("install")
	require.NoError(t, err, errs)
	require.Empty(t, out, "what is there is good enough")
	out, errs, err = m.fleeting("install", "--upgrade")
	require.NoError(t, err, errs)
	newer := strings.Replace(installed, "0.3.0", "0.3.1", 1)
	require.Contains(t, out, "path: "+newer)
	require.FileExists(t, installed, "the former version stays")

	m.release("0.4.0", other)
	_, errs, err = m.fleeting("install", m.name("0.4"))
	require.Error(t, err)
	require.Contains(t, errs, here+" is wanted, the artifact is for "+other)
	_, errs, err = m.fleeting("install", m.name("7"))
	require.Error(t, err)
	require.Contains(t, errs, "its versions are 0.4.0, 0.3.1, 0.3.0")

	// From here on there is no registry: running asks none.
	m.registry.Close()
	out, _, err = m.fleeting("list")
	require.NoError(t, err)
	require.Contains(t, out, "path: "+newer)
	out, errs, err = m.fleeting("install")
	require.NoError(t, err, errs)
	require.Empty(t, out)
	require.NoError(t, m.WriteConfig(strings.ReplaceAll(m.Text(settings), `plugin = "docker"`, `plugin = "`+m.name("0.3")+`"`)))
	m.Start()
	m.Succeeds(coordinator.JobSpec{})
}

func TestPluginsAreInstalledWithoutANetwork(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	m.login()
	layout := m.release("0.5.0", "linux/"+runtime.GOARCH)
	m.registry.Close()
	require.NoError(t, m.WriteConfig(m.Text(m.Autoscaled(rig.Config{}))))
	out, errs, err := m.fleeting("install", "--from", layout)
	require.NoError(t, err, errs)
	path := filepath.Join(m.plugins, "registry.gitlab.com", "gitlab-org", "fleeting", "plugins", "docker", "0.5.0", "plugin")
	require.Contains(t, out, "plugin: docker, path: "+path)
	version, _, err := m.call("", path, "version")
	require.NoError(t, err)
	require.Contains(t, version, "0.5.0")

	out, errs, err = m.fleeting("install", "--from", layout, "aws")
	require.Error(t, err)
	require.Empty(t, out)
	require.Contains(t, errs, "no such version of plugin registry.gitlab.com/gitlab-org/fleeting/plugins/aws:latest")
	_, errs, err = m.fleeting("install", "fleeting-plugin-googlecompute")
	require.Error(t, err)
	require.Contains(t, errs, `write plugin = "googlecloud"`)
}

func TestLoginAsksOnATerminal(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	cmd := exec.CommandContext(m.Ctx, "script", "--quiet", "--return", "--command",
		m.Program("gitlab-runner")+" fleeting login "+m.registry.Host, "/dev/null")
	cmd.Env = m.Environment()
	typed, err := cmd.StdinPipe()
	require.NoError(t, err)
	shown, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var all []byte
	await := func(text string) {
		for !strings.Contains(string(all), text) {
			more := make([]byte, 1024)
			n, err := shown.Read(more)
			require.NoError(t, err, "%s", all)
			all = append(all, more[:n]...)
		}
	}
	await("Name at " + m.registry.Host + ": ")
	_, err = io.WriteString(typed, m.registry.Username+"\n")
	require.NoError(t, err)
	await("Password of " + m.registry.Username + ": ")
	_, err = io.WriteString(typed, m.registry.Password+"\n")
	require.NoError(t, err)
	await("Logged in to " + m.registry.Host)
	rest, err := io.ReadAll(shown)
	require.NoError(t, err)
	require.NoError(t, cmd.Wait(), "%s%s", all, rest)
	require.NotContains(t, string(all)+string(rest), m.registry.Password, "it is not shown")
	require.FileExists(t, filepath.Join(m.logins, "config.json"))
}

func TestADamagedArtifactIsNotInstalled(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	m.login()
	m.release("0.6.0", "linux/"+runtime.GOARCH)
	// The largest blob is the layer.
	var layer string
	var size int64
	require.NoError(t, filepath.WalkDir(m.registry.Data(), func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() > size {
			layer, size = path, info.Size()
		}
		return err
	}))
	file, err := os.OpenFile(layer, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteAt([]byte("damage"), size/2)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	out, errs, err := m.fleeting("install", m.name("latest"))
	require.Error(t, err)
	require.Empty(t, out)
	require.Contains(t, errs, "the layer is not the one that the manifest names")
	entries, err := filepath.Glob(filepath.Join(m.plugins, "*"))
	require.NoError(t, err)
	require.Empty(t, entries, "nothing is left of it")
}
