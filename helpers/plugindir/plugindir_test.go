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

func TestNamesThatAreNoReferencesSayWhatToDo(t *testing.T) {
	for name, says := range map[string]string{
		"fleeting-plugin-aws":           `write plugin = "aws"`,
		"fleeting-plugin-googlecompute": `write plugin = "googlecloud"`,
		"fleeting-plugin-azure":         `write plugin = "azure"`,
		"/opt/plugins/aws":              "there is no file /opt/plugins/aws",
		"./aws":                         "there is no file ./aws",
		`C:\plugins\aws.exe`:            "there is no file",
		"bad host.example.com/x/y":      "no valid reference",
	} {
		_, err := plugindir.Installable(name)
		require.ErrorContains(t, err, says, name)
		_, err = plugindir.Find(name)
		require.Error(t, err, name)
	}
	require.False(t, plugindir.IsInstalled("fleeting-plugin-aws"))
	require.True(t, plugindir.IsInstalled("aws"))
}

func TestARegistryWithAPortHasADirectory(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FLEETING_PLUGIN_PATH", dir)
	ref, err := plugindir.Parse("Registry.Example.com:5000/Team/x")
	require.NoError(t, err)
	version, err := ref.VersionPath(dir, "1.0.0")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(version, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(version, plugindir.Executable()), nil, 0o755))
	file, err := plugindir.Find("registry.example.com:5000/Team/x:1")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(version, plugindir.Executable()), file)
	_, err = plugindir.Find("registry.example.com:5000/team/x:1")
	require.ErrorIs(t, err, plugindir.ErrNotFound, "repositories differ in case")
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"aws", "aws:1.2", "group/x:1.2.3-rc.1", "registry.example.com:5000/a/b", "[::1]:5000/a", "../x", `a\b`, "a:b:c", "!a/b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		ref, err := plugindir.Parse(name)
		if err != nil {
			return
		}
		again, err := plugindir.Parse(ref.String())
		require.NoError(t, err)
		require.Equal(t, ref, again, "the full form means the same")
		dir, err := ref.VersionPath("/plugins", "1.2.3")
		require.NoError(t, err)
		rel, err := filepath.Rel("/plugins", dir)
		require.NoError(t, err)
		require.True(t, filepath.IsLocal(rel), rel)
	})
}

func FuzzMatches(f *testing.F) {
	f.Add("1.2", "1.2.3")
	f.Add("", "1.2.3-rc.1")
	f.Fuzz(func(t *testing.T, constraint, version string) {
		ref, err := plugindir.Parse("x:" + constraint)
		if err != nil {
			return
		}
		if ref.Matches(version) && plugindir.IsVersion(version) {
			exact, err := plugindir.Parse("x:" + version)
			require.NoError(t, err)
			require.True(t, exact.Matches(version))
			require.Equal(t, version, ref.Highest([]string{"not a version", version}))
		}
	})
}

func TestFindTakesTheFormerNameOfTheGooglePlugin(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	_, err := plugindir.Find("fleeting-plugin-googlecompute")
	require.ErrorContains(t, err, "fleeting-plugin-googlecompute is not on PATH")

	present, former := filepath.Join(dir, "fleeting-plugin-googlecloud"), filepath.Join(dir, "fleeting-plugin-googlecompute")
	for _, file := range []string{present, former} {
		require.NoError(t, os.WriteFile(file, nil, 0o755))
		found, err := plugindir.Find("fleeting-plugin-googlecompute")
		require.NoError(t, err)
		require.Equal(t, file, found, "the former name goes first if there is such a program")
	}
}
