package commands_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// installedPlugin is a plugin directory with one plugin, which is no program.
func installedPlugin(t *testing.T) (path string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("FLEETING_PLUGIN_PATH", dir)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	name := "plugin"
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	path = filepath.Join(dir, "registry.gitlab.com", "gitlab-org", "fleeting", "plugins", "aws", "1.2.3", name)
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, nil, 0o755))
	return path
}

const scaled = "[[runners]]\nname = \"one\"\ntoken = \"glrt-t3_abcdefghijk\"\nurl = \"http://127.0.0.1:1\"\nexecutor = \"docker-autoscaler\"\n[runners.autoscaler]\nplugin = "

func TestFleetingListShowsWherePluginsAre(t *testing.T) {
	plugin := installedPlugin(t)
	stdout, stderr, err := run(t, "", "fleeting", "list", "-c", write(t, scaled+"\"aws:1\"\n"+scaled+"\"azure\"\n"))
	require.ErrorContains(t, err, "1 of 2 plugins are not installed")
	require.Equal(t, "runner: abcdefghi, plugin: aws:1, path: "+plugin+"\n", stdout)
	require.Contains(t, stderr, "runner: abcdefghi, plugin: azure, error: plugin not found")

	_, stderr, err = run(t, "", "fleeting", "list", "-c", write(t, "concurrent = 1\n"))
	require.NoError(t, err)
	require.Contains(t, stderr, "[runners.autoscaler]")
}

func TestFleetingInstallDoesNothingForWhatIsThere(t *testing.T) {
	plugin := installedPlugin(t)
	stdout, stderr, err := run(t, "", "fleeting", "install", "-c", write(t, scaled+"\"aws:1\"\n"))
	require.NoError(t, err)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "installed already")
	// A file of the user's own is never replaced, with --upgrade neither.
	stdout, _, err = run(t, "", "fleeting", "install", "--upgrade", plugin)
	require.NoError(t, err)
	require.Empty(t, stdout)
}

func TestFleetingInstallGoesOnAfterAFailure(t *testing.T) {
	installedPlugin(t)
	_, stderr, err := run(t, "", "fleeting", "install", "-c", write(t, scaled+"\"fleeting-plugin-googlecompute\"\n"+scaled+"\"127.0.0.1:1/x/y\"\n"+scaled+"\"a:b:c\"\n"))
	require.ErrorContains(t, err, "3 of 3 plugins could not be installed")
	require.Contains(t, stderr, `write plugin = "googlecloud"`)
	require.Contains(t, stderr, "asking the registry 127.0.0.1:1")
	require.Contains(t, stderr, "no valid reference")
}

func TestFleetingLoginTakesNoPasswordOutOfThinAir(t *testing.T) {
	installedPlugin(t)
	for _, args := range [][]string{{}, {"--username", "me"}, {"--password-stdin"}, {"--username", "me", "--password", "x", "--password-stdin"}, {"--username", "me", "--password-stdin"}} {
		_, _, err := run(t, "", append([]string{"fleeting", "login"}, append(args, "127.0.0.1:1")...)...)
		require.ErrorContains(t, err, "password", args)
	}
	_, stderr, err := run(t, "", "fleeting", "login", "--username", "me", "--password", "very-secret", "127.0.0.1:1")
	require.Error(t, err)
	require.Contains(t, stderr, "--password-stdin", "a warning")
	require.NotContains(t, err.Error()+stderr, "very-secret")
}
