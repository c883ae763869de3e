package plugin

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func executableName() string {
	if runtime.GOOS == "windows" {
		return "plugin.exe"
	}
	return "plugin"
}

func TestInstallPath(t *testing.T) {
	pseudo := VersionInfo{Version: "(devel)", Revision: "0123456789abcdef", BuiltAt: "2026-01-02T05:04:05+02:00"}
	tests := map[string]struct {
		repository string
		version    VersionInfo
		want       string
	}{
		"a port":               {"registry.example.com:5000/x", VersionInfo{Version: "v1.2.3"}, registryDir("registry.example.com:5000") + "/x/1.2.3"},
		"full path":            {"registry.example.com/group/x", VersionInfo{Version: "v1.2.3"}, "registry.example.com/group/x/1.2.3"},
		"version without v":    {"registry.example.com/x", VersionInfo{Version: "1.2"}, "registry.example.com/x/1.2.0"},
		"release candidate":    {"registry.example.com/x", VersionInfo{Version: "v1.2.3-rc.1"}, "registry.example.com/x/1.2.3-rc.1"},
		"name alone":           {"aws", VersionInfo{Version: "v1.0.0"}, "registry.gitlab.com/gitlab-org/fleeting/plugins/aws/1.0.0"},
		"path on the default":  {"group/x", VersionInfo{Version: "v1.0.0"}, "registry.gitlab.com/group/x/1.0.0"},
		"upper case":           {"registry.example.com/Group/x", VersionInfo{Version: "v1.0.0"}, "registry.example.com/!group/x/1.0.0"},
		"made of the build":    {"localhost/x", pseudo, "localhost/x/0.0.0-20260102030405-0123456789ab"},
		"without any revision": {"localhost/x", VersionInfo{BuiltAt: "2026-01-02T03:04:05Z"}, "localhost/x/0.0.0-20260102030405-unknown"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := installPath("dir", tt.repository, tt.version)
			require.NoError(t, err)
			require.Equal(t, filepath.Join("dir", filepath.FromSlash(tt.want), executableName()), got)
		})
	}
}

func TestInstallPathNeedsAVersion(t *testing.T) {
	_, err := installPath("dir", "example.com/x", VersionInfo{Version: "dev", BuiltAt: "now"})
	require.ErrorContains(t, err, `"dev" is not a semantic version`)
}

func TestBootstrapInstallsTheExecutable(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("FLEETING_PLUGIN_PATH", dir)
	var out bytes.Buffer
	for range 2 {
		out.Reset()
		require.NoError(t, bootstrap("registry.example.com/group/x", &out, VersionInfo{Version: "v1.2.3"}))
	}
	installed := filepath.Join(dir, "registry.example.com", "group", "x", "1.2.3", executableName())
	require.Equal(t, installed, strings.TrimSpace(out.String()))

	self, err := os.Executable()
	require.NoError(t, err)
	want, err := os.Stat(self)
	require.NoError(t, err)
	got, err := os.Stat(installed)
	require.NoError(t, err)
	require.Equal(t, want.Size(), got.Size())
	if runtime.GOOS != "windows" {
		require.Equal(t, os.FileMode(0o755), got.Mode().Perm())
	}
	entries, err := os.ReadDir(filepath.Dir(installed))
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left behind")
}

func TestPluginDirIsTheUsersByDefault(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Setenv("APPDATA", "data")
	}
	t.Setenv("FLEETING_PLUGIN_PATH", "")
	t.Setenv("HOME", "home")
	dir, err := pluginDir()
	require.NoError(t, err)
	require.Equal(t, filepath.Join("fleeting", "plugins"), filepath.Join(filepath.Base(filepath.Dir(dir)), filepath.Base(dir)))
}
