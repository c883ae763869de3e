package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/pluginartifact"
)

func TestEveryPluginIsReleasedOnce(t *testing.T) {
	dir := t.TempDir()
	for _, program := range []string{"fleeting-plugin-aws", "fleeting-plugin-googlecloud", "fleeting-plugin-googlecompute", "cloud-simulator"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, program), 0o755))
	}
	for only, want := range map[string][]string{
		"":                {"fleeting-plugin-aws", "fleeting-plugin-googlecloud"},
		"googlecloud,aws": {"fleeting-plugin-aws", "fleeting-plugin-googlecloud"},
		"aws":             {"fleeting-plugin-aws"},
	} {
		programs, err := programsIn(dir, only)
		require.NoError(t, err)
		require.Equal(t, want, programs)
	}
	_, err := programsIn(dir, "aws,azure")
	require.ErrorContains(t, err, `no plugin "azure"`)
	_, err = programsIn(t.TempDir(), "")
	require.ErrorContains(t, err, "no plugins")
}

func TestPlatformsAreRead(t *testing.T) {
	platforms, err := parsePlatforms("linux/amd64,windows/arm64")
	require.NoError(t, err)
	require.Equal(t, []pluginartifact.Platform{{OS: "linux", Arch: "amd64"}, {OS: "windows", Arch: "arm64"}}, platforms)
	for _, list := range []string{"", "linux", "linux/", "/amd64", "linux/amd64,"} {
		_, err := parsePlatforms(list)
		require.ErrorContains(t, err, "os/arch", list)
	}
}

func TestLargeProgramsAreRefused(t *testing.T) {
	p := pluginartifact.Platform{OS: "linux", Arch: "amd64"}
	require.NoError(t, checkSize("x", p, maxBinary))
	require.ErrorContains(t, checkSize("x", p, maxBinary+1), "at most 40000000 are allowed")
}
