package commands_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// walk calls visit with the path of every command that a user sees.
func walk(c *cli.Command, path []string, visit func(c *cli.Command, path []string)) {
	for _, below := range c.Commands {
		// Those of a group are hidden from the library only.
		if below.Hidden && len(path) == 0 || below.Name == "help" {
			continue
		}
		here := append(append([]string(nil), path...), below.Name)
		visit(below, here)
		walk(below, here, visit)
	}
}

func TestTheHelpOfEveryCommandFitsATerminalAndShowsAnExample(t *testing.T) {
	t.Setenv("CI_SERVER_TOKEN", "glrt-a-secret")
	app := commands.New(commands.Environment{Version: version.Get(), Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer)})
	seen := 0
	walk(app.Command, nil, func(c *cli.Command, path []string) {
		seen++
		t.Run(strings.Join(path, " "), func(t *testing.T) {
			stdout, _, err := run(t, "", append(path, "--help")...)
			require.NoError(t, err)
			for line := range strings.SplitSeq(stdout, "\n") {
				require.LessOrEqual(t, len([]rune(line)), 80, line)
			}
			if len(c.Commands) == 0 {
				require.Contains(t, stdout, "Example")
				require.Contains(t, stdout, "  gitlab-runner "+path[0])
			}
			require.NotContains(t, stdout, "glrt-a-secret")
		})
	})
	require.GreaterOrEqual(t, seen, 14)
}

func TestCompletionScriptsAreValidAndNameCommands(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		stdout, _, err := run(t, "", "completion", shell)
		require.NoError(t, err)
		require.Contains(t, stdout, "gitlab-runner")
		if _, err := exec.LookPath(shell); err != nil {
			continue // bash is on every machine that builds this; the others may not be
		}
		path := filepath.Join(t.TempDir(), "script")
		require.NoError(t, os.WriteFile(path, []byte(stdout), 0o600))
		out, err := exec.CommandContext(t.Context(), shell, "-n", path).CombinedOutput()
		require.NoError(t, err, "%s: %s", shell, out)
	}
	for _, test := range []struct{ args, want []string }{
		{nil, []string{"register", "run-single", "install"}},
		{[]string{"register", "--docker-im"}, []string{"--docker-image"}},
	} {
		stdout := completed(t, test.args...)
		for _, want := range test.want {
			require.Contains(t, stdout, want)
		}
	}
}

// completed is what a completion script is offered after some words.
func completed(t *testing.T, args ...string) string {
	t.Helper()
	args = append(args, "--generate-shell-completion")
	// The library looks at the process's arguments, too.
	former := os.Args
	os.Args = append([]string{"gitlab-runner"}, args...)
	defer func() { os.Args = former }()
	stdout, _, err := run(t, "", args...)
	require.NoError(t, err)
	return stdout
}
