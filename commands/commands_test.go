package commands_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

// stubbornEnv has the test binary act as a command that does not end: see actStubbornly.
const stubbornEnv = "TEST_ACT_STUBBORNLY"

func TestMain(m *testing.M) {
	if os.Getenv(stubbornEnv) != "" {
		actStubbornly()
		return
	}
	goleak.VerifyTestMain(m)
}

// actStubbornly prints the signals that it gets.
func actStubbornly() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	fmt.Println("ready")
	for s := range signals {
		// The Go runtime signals itself for reasons of its own.
		if s == syscall.SIGHUP || s == syscall.SIGTERM {
			fmt.Println(s)
		}
	}
}

// run runs the program with arguments and answers to its questions.
func run(t *testing.T, answers string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	app := commands.New(commands.Environment{Version: version.Get(), Stdin: strings.NewReader(answers), Stdout: &out, Stderr: &errs})
	err = app.Run(t.Context(), append([]string{"gitlab-runner"}, args...))
	return out.String(), errs.String(), err
}

func gitlab(t *testing.T) *coordinator.Coordinator {
	t.Helper()
	c, err := coordinator.Start(coordinator.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestWithoutACommandTheHelpIsShown(t *testing.T) {
	stdout, _, err := run(t, "")
	require.NoError(t, err)
	require.Contains(t, stdout, "register")
}

func TestAnUnknownCommandIsAnError(t *testing.T) {
	_, _, err := run(t, "", "dance")
	require.ErrorContains(t, err, `unknown command "dance"`)
}

func TestTheVersionHasItsLines(t *testing.T) {
	stdout, _, err := run(t, "", "--version")
	require.NoError(t, err)
	for _, line := range []string{"Version:      ", "Git revision: ", "Git branch:   ", "GO version:   ", "Built:        ", "OS/Arch:      "} {
		require.Contains(t, stdout, line)
	}
}

func TestAnUnknownLogLevelIsRefused(t *testing.T) {
	_, _, err := run(t, "", "--log-level", "loud", "list", "--config", write(t, ""))
	require.ErrorContains(t, err, `log level "loud"`)
}

func TestRegisterWritesWhatRunAccepts(t *testing.T) {
	c := gitlab(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	template := write(t, "[[runners]]\ntoken = \"not taken\"\nlimit = 7\n[runners.docker]\nimage = \"not taken\"\nvolumes = [\"/cache\"]\n[runners.autoscaler]\nplugin = \"docker\"\nmax_instances = 3\n[[runners.autoscaler.policy]]\nidle_count = 1\nidle_time = \"1m\"\n")
	_, stderr, err := run(t, "", "register", "--config", path, "--non-interactive", "--url", c.URL(), "--token", c.RunnerToken(),
		"--name", "build-01", "--executor", "docker-autoscaler", "--docker-image", "busybox:latest", "--template-config", template,
		"--docker-pull-policy", "if-not-present", "--env", "A=b", "--env", "C=d", "--feature-flags", "FF_TIMESTAMPS:false", "--docker-tmpfs", "/run:rw")
	require.NoError(t, err)
	require.Contains(t, stderr, "Runner registered successfully")
	require.NotContains(t, stderr, c.RunnerToken())

	file, err := config.Load(path)
	require.NoError(t, err)
	require.Empty(t, file.Unknown)
	runner := file.Runners[0]
	require.Equal(t, "build-01", runner.Name)
	require.Equal(t, c.RunnerToken(), runner.Token)
	require.NotZero(t, runner.ID)
	require.False(t, runner.TokenObtainedAt.IsZero())
	require.Equal(t, 7, runner.Limit)
	require.Equal(t, "busybox:latest", runner.Docker.Image)
	require.Equal(t, []string{"/cache"}, runner.Docker.Volumes)
	require.Equal(t, config.StringOrArray{"if-not-present"}, runner.Docker.PullPolicy)
	require.Equal(t, map[string]string{"/run": "rw"}, runner.Docker.Tmpfs)
	require.Equal(t, []string{"A=b", "C=d"}, runner.Environment)
	require.Equal(t, map[string]bool{"FF_TIMESTAMPS": false}, runner.FeatureFlags)
	require.Equal(t, 3, runner.Autoscaler.MaxInstances)
	require.Empty(t, c.Violations())
}

func TestRegisterAsksForWhatIsMissing(t *testing.T) {
	c := gitlab(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	_, stderr, err := run(t, c.URL()+"\n"+"my-runner\nshell\ndocker\nbusybox\n", "register", "--config", path, "--token", c.RunnerToken())
	require.NoError(t, err, stderr)
	require.Contains(t, stderr, `executor "shell" is not known`)
	file, err := config.Load(path)
	require.NoError(t, err)
	require.Equal(t, "my-runner", file.Runners[0].Name)
	require.Equal(t, "docker", file.Runners[0].Executor)
	require.Equal(t, []string{"/cache"}, file.Runners[0].Docker.Volumes)
}

func TestRegisterRefusesWhatItCannotUse(t *testing.T) {
	c := gitlab(t)
	base := []string{"register", "--config", filepath.Join(t.TempDir(), "config.toml"), "--non-interactive", "--url", c.URL(), "--executor", "docker", "--docker-image", "x"}
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"no token":             {nil, "registration-token"},
		"a wrong token":        {[]string{"--token", "glrt-wrong"}, "failed to verify the runner"},
		"server's attributes":  {[]string{"--token", c.RunnerToken(), "--tag-list", "a,b"}, "--tag-list"},
		"a bad access level":   {[]string{"--token", c.RunnerToken(), "--access-level", "all"}, "--access-level"},
		"a bad duration":       {[]string{"--token", c.RunnerToken(), "--prepare-timeout", "5 minutes"}, "--prepare-timeout"},
		"a bad number":         {[]string{"--token", c.RunnerToken(), "--limit", "many"}, "--limit"},
		"a bad pair":           {[]string{"--token", c.RunnerToken(), "--docker-sysctls", "x"}, "--docker-sysctls"},
		"an unknown executor":  {[]string{"--token", c.RunnerToken(), "--executor", "shell"}, `executor "shell" is not known`},
		"an absent template":   {[]string{"--token", c.RunnerToken(), "--template-config", "/does/not/exist"}, "configuration template"},
		"a template of nobody": {[]string{"--token", c.RunnerToken(), "--template-config", write(t, "")}, "exactly one"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := run(t, "", append(append([]string(nil), base...), test.args...)...)
			require.ErrorContains(t, err, test.want)
		})
	}
	_, err := os.Stat(base[2])
	require.ErrorIs(t, err, os.ErrNotExist, "nothing was saved")
}

func TestRegisterWithARegistrationTokenMakesARunner(t *testing.T) {
	c := gitlab(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	_, stderr, err := run(t, "", "register", "--config", path, "--non-interactive", "--url", c.URL(), "--registration-token", c.RegistrationToken(),
		"--name", "old", "--executor", "docker", "--docker-image", "busybox", "--tag-list", "a,b")
	require.NoError(t, err, stderr)
	file, err := config.Load(path)
	require.NoError(t, err)
	require.NotEqual(t, c.RegistrationToken(), file.Runners[0].Token)
	require.Len(t, c.Runners(), 2)
}

func TestVerifyAndUnregisterTakeInvalidAndUnwantedRunnersOut(t *testing.T) {
	c := gitlab(t)
	good := "[[runners]]\nname = \"good\"\nurl = \"" + c.URL() + "\"\ntoken = \"" + c.RunnerToken() + "\"\nexecutor = \"docker\"\n"
	bad := "[[runners]]\nname = \"bad\"\nurl = \"" + c.URL() + "\"\ntoken = \"glrt-wrong\"\nexecutor = \"docker\"\n"
	path := write(t, good+bad)
	_, _, err := run(t, "", "verify", "--config", path)
	require.ErrorContains(t, err, "1 of the runners failed the verification")
	_, _, err = run(t, "", "verify", "--config", path, "--name", "nobody")
	require.ErrorContains(t, err, "no runner matches")
	_, _, err = run(t, "", "verify", "--config", path, "--delete")
	require.NoError(t, err)
	file, err := config.Load(path)
	require.NoError(t, err)
	require.Len(t, file.Runners, 1)
	require.Equal(t, "good", file.Runners[0].Name)

	_, _, err = run(t, "", "unregister", "--config", path)
	require.ErrorContains(t, err, "no runner matches")
	_, _, err = run(t, "", "unregister", "--config", path, "--name", "good")
	require.NoError(t, err)
	file, err = config.Load(path)
	require.NoError(t, err)
	require.Empty(t, file.Runners)
}

func TestLintNamesUnknownKeysAndAcceptsTheExamples(t *testing.T) {
	stdout, _, err := run(t, "", "lint", "--config", write(t, "concurent = 1\n"))
	require.ErrorContains(t, err, "unknown keys")
	require.Contains(t, stdout, "unknown key: concurent")
	_, _, err = run(t, "", "lint", "--config", "/does/not/exist")
	require.Error(t, err)
	for _, name := range []string{"aws", "googlecloud", "azure"} {
		stdout, _, err := run(t, "", "lint", "--config", filepath.Join("..", "docs", "examples", name+".toml"))
		require.NoError(t, err, name)
		require.Equal(t, "Configuration file is valid.\n", stdout)
	}
}

func TestListShowsTheEntries(t *testing.T) {
	_, stderr, err := run(t, "", "list", "--config", write(t, "[[runners]]\nname = \"one\"\nurl = \"https://x\"\ntoken = \"t\"\nexecutor = \"docker\"\n"))
	require.NoError(t, err)
	require.Contains(t, stderr, "one")
	require.Contains(t, stderr, "https://x")
}

func TestTheFleetCommandSaysWhatIsMissing(t *testing.T) {
	_, _, err := run(t, "", "fleet", "status", "--config", write(t, ""))
	require.ErrorContains(t, err, "no listen_address")
	_, _, err = run(t, "", "fleet", "status", "--config", write(t, `listen_address = "127.0.0.1:1"`))
	require.ErrorContains(t, err, "no manager answers at 127.0.0.1:1")
	_, _, err = run(t, "", "fleet", "drain", "--address", "127.0.0.1:1")
	require.ErrorContains(t, err, "name one instance")
	_, _, err = run(t, "", "fleet", "pause", "a-name", "--address", "127.0.0.1:1")
	require.ErrorContains(t, err, "--runner")
	_, _, err = run(t, "", "fleet", "dance")
	require.ErrorContains(t, err, `unknown command "dance"`)
}

func TestRunRefusesAConfigurationThatCannotBeUsed(t *testing.T) {
	_, _, err := run(t, "", "run", "--config", write(t, "concurrent = 0"))
	require.ErrorContains(t, err, "concurrent is 0")
}

func TestTheErrorThatEndsTheProcessIsAnEntryOfTheLog(t *testing.T) {
	for _, level := range []string{"info", "panic"} {
		var errs bytes.Buffer
		app := commands.New(commands.Environment{Version: version.Get(), Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &errs})
		path := write(t, "concurrent = glrt-abcdefghijklmnop\n")
		require.Equal(t, 1, app.ExitCode(app.Run(t.Context(), []string{"gitlab-runner", "--log-format", "json", "--log-level", level, "run", "--config", path})))
		lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
		var last struct{ Level, Msg string }
		for _, line := range lines {
			require.NoError(t, json.Unmarshal([]byte(line), &last), line)
		}
		require.Equal(t, "fatal", last.Level)
		require.Contains(t, last.Msg, "decoding configuration file "+path)
	}
}

func TestAProfileOfTheCPUIsWrittenWhereItIsWanted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cpu.prof")
	for _, args := range [][]string{{"--version"}, {"run", "--config", write(t, "concurrent = 0")}} {
		_, _, err := run(t, "", append([]string{"--cpuprofile", path}, args...)...)
		require.Equal(t, args[0] == "run", err != nil, "%v", err)
		profile, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, []byte{0x1f, 0x8b}, profile[:2], "it is compressed by gzip")
		require.NoError(t, os.Remove(path))
	}
	_, _, err := run(t, "", "--cpuprofile", filepath.Join(path, "no-folder"), "--version")
	require.ErrorContains(t, err, "--cpuprofile: open ")
}
