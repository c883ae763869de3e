package main

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
)

func TestCommandLineOfAPlugin(t *testing.T) {
	binary := integration.BuildPluginBinary(t, ".", "fleeting-plugin-dummy")
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Env = append(cmd.Environ(), "FLEETING_PLUGIN_PATH="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}

	out, err := run("version")
	require.NoError(t, err)
	require.Contains(t, out, "fleeting-plugin-dummy")
	require.Contains(t, out, "Version:")

	out, err = run("bootstrap")
	require.Error(t, err)
	require.Contains(t, out, "bootstrap requires plugin repository path")

	out, err = run()
	require.Error(t, err, "started by hand, it does not serve")
	require.Contains(t, out, "This binary is a plugin")

	out, err = run("nonsense")
	require.Error(t, err)
	require.Contains(t, out, `unknown argument "nonsense"`)
}
