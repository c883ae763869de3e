package commands_test

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/transcript"
)

// registered is a configuration with runners that GitLab knows.
func registered(t *testing.T, c *coordinator.Coordinator, names ...string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "config.toml")
	for _, name := range names {
		_, stderr, err := run(t, "", "register", "--config", path, "--non-interactive", "--url", c.URL(), "--registration-token", c.RegistrationToken(),
			"--name", name, "--executor", "docker", "--docker-image", "busybox")
		require.NoError(t, err, stderr)
	}
	return path
}

func load(t *testing.T, path string) *config.File {
	t.Helper()
	file, err := config.Load(path)
	require.NoError(t, err)
	return file
}

func TestResetTokenExchangesTheTokensThatAreAskedFor(t *testing.T) {
	c := gitlab(t)
	path := registered(t, c, "one", "two")
	before := load(t, path)
	_, stderr, err := run(t, "", "reset-token", "--config", path, "--name", "two")
	require.NoError(t, err, stderr)
	after := load(t, path)
	require.Equal(t, before.Runners[0].Token, after.Runners[0].Token)
	require.NotEqual(t, before.Runners[1].Token, after.Runners[1].Token)
	require.NotContains(t, stderr, after.Runners[1].Token)

	_, stderr, err = run(t, "", "reset-token", "--config", path, "--url", c.URL(), "--id", "2", "--pat", c.PersonalAccessToken())
	require.NoError(t, err, stderr)
	_, _, err = run(t, "", "reset-token", "--config", path, "--all-runners")
	require.NoError(t, err)
	last := load(t, path)
	for i := range last.Runners {
		require.NotEqual(t, after.Runners[i].Token, last.Runners[i].Token)
		require.False(t, last.Runners[i].TokenObtainedAt.IsZero())
	}
	_, _, err = run(t, "", "verify", "--config", path)
	require.NoError(t, err)

	_, _, err = run(t, "", "reset-token", "--config", path)
	require.ErrorContains(t, err, "--all-runners")
	_, _, err = run(t, "", "reset-token", "--config", path, "--name", "nobody")
	require.ErrorContains(t, err, "matches")
	_, _, err = run(t, "", "reset-token", "--config", path, "--name", "one", "--pat", "wrong")
	require.Error(t, err)
}

func TestUnregisterAllKeepsWhatTheServerRefuses(t *testing.T) {
	c := gitlab(t)
	path := registered(t, c, "one", "two")
	file := load(t, path)
	file.Runners[0].Token = "glrt-wrong"
	require.NoError(t, file.Save())
	_, stderr, err := run(t, "", "unregister", "--config", path, "--all-runners")
	require.NoError(t, err)
	require.Contains(t, stderr, "stays in the configuration")
	file = load(t, path)
	require.Len(t, file.Runners, 1)
	require.Equal(t, "one", file.Runners[0].Name)
	_, _, err = run(t, "", "unregister", "--config", path, "--name", "one")
	require.Error(t, err)
	require.Len(t, load(t, path).Runners, 1)
}

func TestServerAttributesWithTheirDefaultsAreNoReasonToRefuse(t *testing.T) {
	c := gitlab(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	t.Setenv("RUNNER_TAG_LIST", "")
	_, stderr, err := run(t, "", "register", "--config", path, "--non-interactive", "--url", c.URL(), "--token", c.RunnerToken(),
		"--executor", "docker", "--docker-image", "busybox", "--locked", "--paused=false", "--run-untagged=false", "--maximum-timeout", "0")
	require.NoError(t, err, stderr)
}

func TestAnInterruptedRegistrationLeavesNothingBehind(t *testing.T) {
	c := gitlab(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	stdin, answers := io.Pipe()
	var log transcript.Log
	app := commands.New(commands.Environment{Version: version.Get(), Stdin: stdin, Stdout: io.Discard, Stderr: &log})
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- app.Run(ctx, []string{"gitlab-runner", "register", "--config", path, "--url", c.URL(), "--registration-token", c.RegistrationToken(), "--name", "n", "--tag-list", "a", "--maintenance-note", "b"})
	}()
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "Enter an executor") }, 10*time.Second, time.Millisecond)
	interrupt()
	require.ErrorContains(t, <-ended, "interrupted")
	require.NoError(t, answers.Close())
	require.NoFileExists(t, path)
	require.Len(t, c.Runners(), 1, "the new runner is still there")
}

func TestRunSingleSaysWhatItMisses(t *testing.T) {
	path := write(t, "[[runners]]\nname = \"one\"\nurl = \"https://x\"\nexecutor = \"docker\"\n")
	for want, args := range map[string][]string{
		"give --url":             nil,
		"give --token":           {"--config", path, "--runner", "one"},
		"no runner in":           {"--config", path, "--runner", "two"},
		"give --config":          {"--runner", "one"},
		"give --executor":        {"--url", "https://x", "--token", "t"},
		`executor "shell" is`:    {"--url", "https://x", "--token", "t", "--executor", "shell", "--config", path},
		"--limit: \"x\" is no":   {"--limit", "x"},
		"flag needs an argument": {"--max-builds"},
	} {
		_, _, err := run(t, "", append([]string{"run-single"}, args...)...)
		require.ErrorContains(t, err, want)
	}
}

func TestARegistrationKeepsWhatIsWrittenMeanwhile(t *testing.T) {
	c := gitlab(t)
	path := registered(t, c, "one")
	stdin, answers := io.Pipe()
	var log transcript.Log
	app := commands.New(commands.Environment{Version: version.Get(), Stdin: stdin, Stdout: io.Discard, Stderr: &log})
	ended := make(chan error, 1)
	go func() {
		ended <- app.Run(t.Context(), []string{"gitlab-runner", "register", "--config", path, "--url", c.URL(), "--token", c.RunnerToken(), "--name", "two", "--docker-image", "busybox"})
	}()
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "Enter an executor") }, 10*time.Second, time.Millisecond)
	file := load(t, path)
	file.Concurrent, file.Runners[0].Token = 7, "glrt-exchanged"
	require.NoError(t, file.Save())
	_, err := io.WriteString(answers, "docker\n")
	require.NoError(t, err)
	require.NoError(t, <-ended, log.String())
	require.NoError(t, answers.Close())
	file = load(t, path)
	require.Equal(t, 7, file.Concurrent)
	require.Len(t, file.Runners, 2)
	require.Equal(t, "glrt-exchanged", file.Runners[0].Token)
	require.Equal(t, "two", file.Runners[1].Name)
}

func TestCommandsKeepWhatIsWrittenWhileGitLabIsAsked(t *testing.T) {
	for name, test := range map[string]struct {
		endpoint coordinator.Endpoint
		args     []string
		// left are the entries after it.
		left []string
	}{
		"verify":      {coordinator.EndpointVerify, []string{"verify", "--delete"}, []string{"one", "two"}},
		"unregister":  {coordinator.EndpointUnregister, []string{"unregister", "--name", "two"}, []string{"one", "invalid"}},
		"reset-token": {coordinator.EndpointResetToken, []string{"reset-token", "--name", "two"}, []string{"one", "two", "invalid"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := gitlab(t)
			path := registered(t, c, "one", "two")
			file := load(t, path)
			invalid := *file.Runners[1]
			invalid.Name, invalid.Token = "invalid", "glrt-wrong"
			file.Runners = append(file.Runners, &invalid)
			require.NoError(t, file.Save())
			slow := c.Inject(coordinator.Fault{Endpoint: test.endpoint, Delay: 500 * time.Millisecond})
			ended := make(chan error, 1)
			go func() {
				_, _, err := run(t, "", append(test.args, "--config", path)...)
				ended <- err
			}()
			require.Eventually(t, func() bool { return slow.Hits() == 1 }, 10*time.Second, time.Millisecond)
			file = load(t, path)
			former := file.Runners[1].Token
			file.Concurrent, file.Runners[0].Token = 7, "glrt-exchanged"
			require.NoError(t, file.Save())
			require.NoError(t, <-ended)
			file = load(t, path)
			require.Equal(t, 7, file.Concurrent)
			require.Equal(t, "glrt-exchanged", file.Runners[0].Token)
			var left []string
			for _, runner := range file.Runners {
				left = append(left, runner.Name)
			}
			require.Equal(t, test.left, left)
			if name == "reset-token" {
				require.NotEqual(t, former, file.Runners[1].Token)
			}
		})
	}
}
