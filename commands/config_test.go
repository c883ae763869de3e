package commands_test

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfigCheckExplainsAndExitsWithErrorsOnly(t *testing.T) {
	const sound = "concurrent = 1\n[[runners]]\nname = \"one\"\nurl = \"https://gitlab.example.com\"\ntoken = \"glrt-secret\"\nexecutor = \"docker\"\n[runners.docker]\nimage = \"busybox\"\n"
	path := write(t, sound)
	stdout, _, err := run(t, "", "config", "check", "--config", path)
	require.NoError(t, err)
	require.Equal(t, "Configuration file is valid.\n", stdout)

	path = write(t, sound+"[runners.referees]\nmetrics = 1\n")
	stdout, _, err = run(t, "", "config", "check", "-c", path)
	require.NoError(t, err, "warnings are no errors")
	require.Contains(t, stdout, path+":9:10: warning: runners[0].referees: ")
	require.Contains(t, stdout, "valid, with 1 warnings")

	path = write(t, sound+"priviledged = true\n")
	stdout, _, err = run(t, "", "config", "check", "-c", path)
	require.ErrorContains(t, err, path+": 1 errors, 0 warnings")
	require.Contains(t, stdout, path+":9:1: error: runners[0].docker.priviledged: unknown key: did you mean privileged?")
	require.NotContains(t, stdout, "glrt-secret")

	stdout, _, err = run(t, "", "config", "check", "-c", path, "--json")
	require.Error(t, err)
	var report struct {
		File     string
		Valid    bool
		Findings []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.Equal(t, path, report.File)
	require.False(t, report.Valid)
	require.Equal(t, []map[string]any{{
		"level": "error", "line": 9.0, "column": 1.0, "key": "runners[0].docker.priviledged", "runner": "one",
		"message": "unknown key: did you mean privileged?",
	}}, report.Findings)

	_, _, err = run(t, "", "config", "check", "-c", filepath.Join(t.TempDir(), "none.toml"))
	require.ErrorContains(t, err, "none.toml")
}
