package plugindir_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

func TestParseFillsInWhatAReferenceLeavesOut(t *testing.T) {
	for name, want := range map[string]string{
		"aws":                             "registry.gitlab.com/gitlab-org/fleeting/plugins/aws:latest",
		"aws:1":                           "registry.gitlab.com/gitlab-org/fleeting/plugins/aws:1",
		"group/plugin:1.2":                "registry.gitlab.com/group/plugin:1.2",
		"registry.example.com/a/b:1.2.3":  "registry.example.com/a/b:1.2.3",
		"registry.example.com:5000/a/b":   "registry.example.com:5000/a/b:latest",
		"localhost/x:latest":              "localhost/x:latest",
		"registry.example.com/a:1.0.0-rc": "registry.example.com/a:1.0.0-rc",
	} {
		ref, err := plugindir.Parse(name)
		require.NoError(t, err, name)
		require.Equal(t, want, ref.String(), name)
	}
}

func TestParseRefusesWhatIsNoReference(t *testing.T) {
	for _, name := range []string{"", ":1", "../x", "a/../b", "a:one", "a/"} {
		_, err := plugindir.Parse(name)
		require.Error(t, err, name)
	}
}

func TestFindTakesTheHighestInstalledVersionThatMatches(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FLEETING_PLUGIN_PATH", dir)
	base := filepath.Join(dir, "registry.gitlab.com", "gitlab-org", "fleeting", "plugins", "docker")
	for _, version := range []string{"1.2.3", "1.10.0", "2.0.0", "2.1.0-rc.1", "not-a-version"} {
		require.NoError(t, os.MkdirAll(filepath.Join(base, version), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(base, version, plugindir.Executable()), nil, 0o755))
	}
	for name, want := range map[string]string{
		"docker": "2.0.0", "docker:latest": "2.0.0", "docker:1": "1.10.0", "docker:1.2": "1.2.3",
		"docker:1.2.3": "1.2.3", "docker:2.1.0-rc.1": "2.1.0-rc.1",
	} {
		file, err := plugindir.Find(name)
		require.NoError(t, err, name)
		require.Equal(t, filepath.Join(base, want, plugindir.Executable()), file, name)
	}
	_, err := plugindir.Find("docker:3")
	require.ErrorIs(t, err, plugindir.ErrNotFound)
	require.ErrorContains(t, err, "gitlab-runner fleeting install")
}

func TestFindTakesAnExistingPathAndALegacyNameOnPath(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "fleeting-plugin-x")
	require.NoError(t, os.WriteFile(file, nil, 0o755))
	t.Setenv("PATH", dir)

	found, err := plugindir.Find(file)
	require.NoError(t, err)
	require.Equal(t, file, found)
	found, err = plugindir.Find("fleeting-plugin-x")
	require.NoError(t, err)
	require.Equal(t, file, found)
	_, err = plugindir.Find("fleeting-plugin-y")
	require.ErrorIs(t, err, plugindir.ErrNotFound)
}
