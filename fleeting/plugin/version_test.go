package plugin

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVersionInfoInItsForms(t *testing.T) {
	v := VersionInfo{Name: "fleeting-plugin-x", Version: "v1.2.3", Revision: "abc", Reference: "main", BuiltAt: "now"}
	platform := runtime.GOOS + "/" + runtime.GOARCH
	require.Equal(t, "v1.2.3", v.String())
	require.Equal(t, "sha=abc; ref=main; go="+runtime.Version()+"; built_at=now; os_arch="+platform, v.BuildInfo())
	require.Equal(t, "fleeting-plugin-x\nVersion:      v1.2.3\nGit revision: abc\nGit ref:      main\nGO version:   "+
		runtime.Version()+"\nBuilt:        now\nOS/Arch:      "+platform, v.Full())
}

func TestEmptyVersionFieldsAreFilled(t *testing.T) {
	info := &debug.BuildInfo{
		Main: debug.Module{Version: "v4.5.6"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "def"}, {Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "vcs", Value: "git"},
		},
	}
	require.Equal(t, VersionInfo{Name: "n", Version: "v4.5.6", Revision: "def", BuiltAt: "2026-01-02T03:04:05Z"},
		VersionInfo{Name: "n"}.completed(info))
	given := VersionInfo{Version: "dev", Revision: "HEAD", Reference: "HEAD", BuiltAt: "now"}
	require.Equal(t, given, given.completed(info), "placeholders stay")
	require.Equal(t, given, given.completed(nil))
}

func TestCommandLine(t *testing.T) {
	version := VersionInfo{Name: "fleeting-plugin-x", Version: "v1.2.3"}
	tests := map[string]struct {
		args     []string
		out, err string
	}{
		"version":                         {[]string{"version"}, "Version:      v1.2.3", ""},
		"version as a flag":               {[]string{"-version"}, "fleeting-plugin-x", ""},
		"version as a long flag":          {[]string{"--version"}, "Git ref:", ""},
		"help":                            {[]string{"--help"}, "bootstrap <repository path>", ""},
		"bootstrap without an argument":   {[]string{"bootstrap"}, "", "bootstrap requires plugin repository path"},
		"bootstrap with an empty one":     {[]string{"bootstrap", ""}, "", "bootstrap requires plugin repository path"},
		"bootstrap with too many":         {[]string{"bootstrap", "a", "b"}, "", "bootstrap requires plugin repository path"},
		"something else":                  {[]string{"serve"}, "", `unknown argument "serve"`},
		"bootstrap out of the directory":  {[]string{"bootstrap", "../../etc/x"}, "", "is not valid"},
		"bootstrap with a tag":            {[]string{"bootstrap", "example.com/x:latest"}, "", "is not valid"},
		"bootstrap with an absolute path": {[]string{"bootstrap", "/etc/x"}, "", "is not valid"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FLEETING_PLUGIN_PATH", t.TempDir())
			var out bytes.Buffer
			err := runCommand(tt.args, &out, version)
			if tt.err != "" {
				require.ErrorContains(t, err, tt.err)
				return
			}
			require.NoError(t, err)
			require.Contains(t, out.String(), tt.out)
		})
	}
}
