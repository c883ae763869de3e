//go:build system

package system

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig/rigtest"
)

func TestRegisteredRunnerRunsJobs(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	var template strings.Builder
	template.WriteString("[[runners]]\n")
	s.Tables(&template, s.Autoscaled(rig.Config{IdleCount: 1}))
	require.NoError(t, s.WriteConfig("concurrent = 2\ncheck_interval = 1\nshutdown_timeout = 60\n"))

	out, err := s.Runner(s.Ctx, "register", "--config", s.ConfigPath(), "--non-interactive",
		"--url", s.Coordinator.URL(), "--token", s.Coordinator.RunnerToken(), "--name", "registered",
		"--executor", "docker-autoscaler", "--template-config", s.file("template.toml", template.String(), 0o600))
	require.NoError(t, err, out)
	require.NotContains(t, out, s.Coordinator.RunnerToken())
	text, err := os.ReadFile(s.ConfigPath())
	require.NoError(t, err)
	for _, line := range []string{"concurrent = 2", `name = "registered"`, `executor = "docker-autoscaler"`, `plugin = "docker"`, `idle_time = "1m0s"`} {
		require.Contains(t, string(text), line)
	}
	info, err := os.Stat(s.ConfigPath())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "the file holds a token")
	out, err = s.Runner(s.Ctx, "lint", "--config", s.ConfigPath())
	require.NoError(t, err, out)

	s.Start()
	record := s.Succeeds(coordinator.JobSpec{})
	require.Contains(t, plain(record), "  on registered ")
	runners := s.Coordinator.Runners()
	require.Len(t, runners, 1)
	require.Len(t, runners[0].Managers, 1, "register and run have one system id")
}

func TestRegistrationThatIsRefusedChangesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	const before = "concurrent = 2\n"
	require.NoError(t, s.WriteConfig(before))
	out, err := s.Runner(s.Ctx, "register", "--config", s.ConfigPath(), "--non-interactive",
		"--url", s.Coordinator.URL(), "--token", "glrt-not-a-token", "--executor", "docker", "--docker-image", rigtest.Busybox)
	require.Error(t, err)
	require.Contains(t, out, "failed to verify the runner")
	require.NotContains(t, out, "glrt-not-a-token")
	text, err := os.ReadFile(s.ConfigPath())
	require.NoError(t, err)
	require.Equal(t, before, string(text))
}

var placeholder = regexp.MustCompile(`"<[a-z -]+>"`)

func TestDocumentedExamplesLoad(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	examples, err := filepath.Glob(filepath.Join(s.Root(), "docs", "examples", "*.toml"))
	require.NoError(t, err)
	require.Len(t, examples, 4)
	for _, example := range examples {
		t.Run(filepath.Base(example), func(t *testing.T) {
			s := &stage{s.In(t)}
			text, err := os.ReadFile(example)
			require.NoError(t, err)
			filled := placeholder.ReplaceAllString(string(text), `"glrt-t3_0123456789abcdefghij"`)
			path := s.file(filepath.Base(example), filled, 0o600)
			out, err := s.Runner(s.Ctx, "lint", "--config", path)
			require.NoError(t, err, out)
			out, err = s.Runner(s.Ctx, "list", "--config", path)
			require.NoError(t, err, out)
			require.Contains(t, out, "docker-autoscaler")
		})
	}
}
