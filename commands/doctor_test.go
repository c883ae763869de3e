package commands_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheDoctorSaysWhatFailsAndWhatToDo(t *testing.T) {
	c := gitlab(t)
	entry := func(name, url, token string) string {
		return fmt.Sprintf("[[runners]]\nname = %q\nurl = %q\ntoken = %q\nexecutor = \"docker\"\nrequest_concurrency = 2\n[runners.docker]\nimage = \"busybox\"\nhost = \"tcp://127.0.0.1:1\"\n", name, url, token)
	}
	path := write(t, "concurrent = 3\n"+entry("good", c.URL(), c.RunnerToken())+entry("stranger", c.URL(), "glrt-unknown-token")+entry("nobody", "http://127.0.0.1:1", "glrt-whatever"))

	stdout, _, err := run(t, "", "doctor", "--config", path)
	require.ErrorContains(t, err, "5 of 7 steps failed")
	require.Contains(t, stdout, "  ok    config        nothing to say\n")
	require.Contains(t, stdout, "\nrunner \"good\" (")
	require.Contains(t, stdout, "  ok    gitlab        "+c.URL()+" knows the token\n")
	require.Contains(t, stdout, "  fail  docker        ")
	require.Contains(t, stdout, "-> start Docker, or set host in [runners.docker]")
	require.NotContains(t, stdout, c.RunnerToken())
	require.NotContains(t, stdout, "unknown-token")

	stdout, stderr, err := run(t, "", "doctor", "--config", path, "--json", "--name", "stranger")
	require.Error(t, err)
	require.Empty(t, stderr)
	var report struct {
		OK    bool
		Steps []struct{ Runner, Name, State, Detail, Remedy string }
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &report))
	require.False(t, report.OK)
	require.Len(t, report.Steps, 3)
	require.Equal(t, "config", report.Steps[0].Name)
	require.Equal(t, "stranger", report.Steps[1].Runner)
	require.Equal(t, "fail", report.Steps[1].State)
	require.Contains(t, report.Steps[1].Remedy, "gitlab-runner verify --delete")

	stdout, _, err = run(t, "", "doctor", "--config", path, "--name", "nobody")
	require.Error(t, err)
	require.Contains(t, stdout, "check url, proxy and firewall")

	_, _, err = run(t, "", "doctor", "--config", path, "--name", "who")
	require.ErrorContains(t, err, "1 of 2 steps failed")
}

func TestTheDoctorBeginsWithTheFile(t *testing.T) {
	stdout, _, err := run(t, "", "doctor", "--config", filepath.Join(t.TempDir(), "none.toml"))
	require.ErrorContains(t, err, "1 of 1 steps failed")
	require.Contains(t, stdout, "gitlab-runner register")
	stdout, _, err = run(t, "", "doctor", "--config", write(t, "concurrent = 0\n"))
	require.Error(t, err)
	require.Contains(t, stdout, "concurrent is 0")
	stdout, _, err = run(t, "", "doctor", "--config", write(t, "concurrent = 1\nsurprise = 1\n"))
	require.ErrorContains(t, err, "1 of 2 steps failed")
	require.Contains(t, stdout, "there is no runner entry")
}
