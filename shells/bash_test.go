package shells_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/shells"
)

// interpreters are the shells every test machine has.
func interpreters(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for name, argv := range map[string][]string{"bash": {"bash"}, "dash": {"dash"}, "busybox": {"busybox", "sh"}} {
		if file, err := exec.LookPath(argv[0]); err == nil {
			found[name] = append([]string{file}, argv[1:]...)
		}
	}
	require.Contains(t, found, "bash")
	require.Contains(t, found, "dash")
	return found
}

func run(t require.TestingT, argv []string, script string) (stdout, stderr string, code int) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestBashScriptBehaves(t *testing.T) {
	tests := []struct {
		name   string
		script shells.Script
		stdout string
		code   int
	}{
		{
			name:   "shows each command before it runs it",
			script: shells.Script{Blocks: []shells.Block{{Commands: []string{"echo one", "echo two"}}}},
			stdout: "\x1b[32;1m$ echo one\x1b[0;m\none\n\x1b[32;1m$ echo two\x1b[0;m\ntwo\n",
		},
		{
			name:   "stops at the first failure with its exit code",
			script: shells.Script{Blocks: []shells.Block{{Silent: true, Commands: []string{"echo before", "(exit 3)", "echo after"}}}},
			stdout: "before\n",
			code:   3,
		},
		{
			name:   "keeps the shell's state between commands",
			script: shells.Script{Blocks: []shells.Block{{Silent: true, Commands: []string{"X=1", "cd /", `echo "$X $PWD"`}}}},
			stdout: "1 /\n",
		},
		{
			name:   "shows only the first line of a long command",
			script: shells.Script{Blocks: []shells.Block{{Commands: []string{"echo one\necho two\n"}}}},
			stdout: "\x1b[32;1m$ echo one # collapsed multi-line command\x1b[0;m\none\ntwo\n",
		},
		{
			name:   "shows an empty line for an empty command",
			script: shells.Script{Blocks: []shells.Block{{Commands: []string{"  "}}}},
			stdout: "\n",
		},
		{
			name:   "does not interpret escapes in what it shows",
			script: shells.Script{Blocks: []shells.Block{{Commands: []string{`true 'a\nb\tc%s'`}}}},
			stdout: "\x1b[32;1m$ true 'a\\nb\\tc%s'\x1b[0;m\n",
		},
		{
			name:   "gives commands an empty standard input",
			script: shells.Script{Blocks: []shells.Block{{Silent: true, Commands: []string{"cat", "echo done"}}}},
			stdout: "done\n",
		},
		{
			name:   "leaves out names that no shell accepts",
			script: shells.Script{Variables: []shells.Variable{{Key: "1-a b", Value: "x"}}, Blocks: []shells.Block{{Silent: true, Commands: []string{"echo ok"}}}},
			stdout: "ok\n",
		},
		{
			name:   "shows a notice before the commands",
			script: shells.Script{Notice: "Running after script...", Blocks: []shells.Block{{Silent: true, Commands: []string{"echo x"}}}},
			stdout: "\x1b[32;1mRunning after script...\x1b[0;m\nx\n",
		},
		{
			name:   "checks exit codes that errexit overlooks",
			script: shells.Script{CheckExitCodes: true, Blocks: []shells.Block{{Silent: true, Commands: []string{"false && true", "echo after"}}}},
			code:   1,
		},
		{
			name:   "reports a syntax error of the user's as a failure",
			script: shells.Script{Blocks: []shells.Block{{Silent: true, Commands: []string{"if"}}}},
			code:   -1,
		},
	}
	for shell, argv := range interpreters(t) {
		for _, test := range tests {
			t.Run(shell+"/"+test.name, func(t *testing.T) {
				stdout, stderr, code := run(t, argv, shells.Bash(test.script))
				if test.code < 0 {
					require.NotZero(t, code)
					return
				}
				require.Equal(t, test.code, code, stderr)
				require.Equal(t, test.stdout, stdout)
			})
		}
	}
}

func TestBashHandsFilesAndEnvironmentToLaterStages(t *testing.T) {
	for shell, argv := range interpreters(t) {
		t.Run(shell, func(t *testing.T) {
			tmp := filepath.Join(t.TempDir(), "with space", "group.tmp")
			script := shells.Script{
				TmpDir:    tmp,
				Dir:       filepath.Join(filepath.Dir(tmp), "new"),
				Variables: []shells.Variable{{Key: "SECRET", Value: "line\n'quoted'", File: true}},
			}
			script.Blocks = []shells.Block{{Silent: true, Commands: []string{`cat "$SECRET"`, `echo "LEFT=over here" >> "$GITLAB_ENV"`}}}
			stdout, stderr, code := run(t, argv, shells.Bash(script))
			require.Zero(t, code, stderr)
			require.Equal(t, "line\n'quoted'", stdout)

			script.Blocks = []shells.Block{{Silent: true, Commands: []string{`echo "$LEFT"`, `pwd`}}}
			stdout, stderr, code = run(t, argv, shells.Bash(script))
			require.Zero(t, code, stderr)
			require.Equal(t, "over here\n"+script.Dir+"\n", stdout)
		})
	}
}

func TestBashTracesCommandsAndNotTheScriptAsAWhole(t *testing.T) {
	script := shells.Bash(shells.Script{
		Trace: true, Variables: []shells.Variable{{Key: "TRACED", Value: "once"}},
		Blocks: []shells.Block{{Silent: true, Commands: []string{"echo $TRACED"}}},
	})
	for shell, argv := range interpreters(t) {
		t.Run(shell, func(t *testing.T) {
			stdout, stderr, code := run(t, argv, script)
			require.Zero(t, code, stderr)
			require.Equal(t, "once\n", stdout)
			require.Regexp(t, `\A(\++ export '?TRACED=once'?\n)(\++ TRACED=once\n)?(\++ echo once\n)\z`, stderr)
		})
	}
}

func TestVariablesThatAreTheShellsOwnDoNotEndTheScript(t *testing.T) {
	for name, shell := range interpreters(t) {
		for _, key := range []string{"UID", "EUID", "PPID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO"} {
			tmp := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(tmp, shells.EnvFile), []byte(key+"=2000\nLATER=yes\n"), 0o600))
			stdout, stderr, code := run(t, shell, shells.Bash(shells.Script{
				TmpDir: tmp, Variables: []shells.Variable{{Key: key, Value: "1000"}},
				Blocks: []shells.Block{{Silent: true, Commands: []string{"echo later: $LATER, value: $" + key}}},
			}))
			require.Equal(t, 0, code, "%s, %s: %s", name, key, stderr)
			require.Contains(t, stdout, "later: yes")
			if name == "bash" {
				require.Contains(t, stdout, "WARNING: the variable "+key+" cannot be set in this shell")
			} else {
				require.Contains(t, stdout, "value: 2000")
			}
		}
	}
}

func TestBashReadsOnlyAssignmentsOfTheEnvironmentFile(t *testing.T) {
	for shell, argv := range interpreters(t) {
		t.Run(shell, func(t *testing.T) {
			tmp := t.TempDir()
			content := "GOOD=a = b 'c'\n\nno assignment\nnot a name=x\n1ST=x\n=x\n$(touch pwned)=x\nLAST=$HOME `x`"
			require.NoError(t, os.WriteFile(filepath.Join(tmp, shells.EnvFile), []byte(content), 0o600))
			script := shells.Script{TmpDir: tmp, Dir: tmp, Blocks: []shells.Block{{Silent: true, Commands: []string{`echo "$GOOD|$LAST"`, "ls"}}}}
			stdout, stderr, code := run(t, argv, shells.Bash(script))
			require.Zero(t, code, stderr)
			require.Equal(t, "a = b 'c'|$HOME `x`\n"+shells.EnvFile+"\n", stdout)

			script.FreshEnv = true
			stdout, stderr, code = run(t, argv, shells.Bash(script))
			require.Zero(t, code, stderr)
			require.Equal(t, "|\n"+shells.EnvFile+"\n", stdout)
		})
	}
}

func TestBashSectionsFoldTheTextOfLongCommands(t *testing.T) {
	script := shells.Bash(shells.Script{Sections: true, Blocks: []shells.Block{{Name: "script_step", Commands: []string{"echo one\necho two"}}}})
	stdout, stderr, code := run(t, interpreters(t)["bash"], script)
	require.Zero(t, code, stderr)
	require.Regexp(t, `^section_start:\d+:section_script_step_0\[hide_duration=true,collapsed=true\]\r\x1b\[0K\x1b\[32;1m\$ echo one\necho two\x1b\[0;m\nsection_end:\d+:section_script_step_0\r\x1b\[0K\none\ntwo\n$`, stdout)
}

// A value arrives as it was, whatever it holds but NUL, which no environment can carry.
func TestBashCarriesEveryValueUnchanged(t *testing.T) {
	value := rapid.OneOf(
		rapid.StringOf(rapid.RuneFrom([]rune("'\"`$\\%!\n\r\t *?[]{}()#&;|<>~=-ä€😀a1 "))),
		rapid.Map(rapid.SliceOfN(rapid.ByteRange(1, 255), 0, 200), func(b []byte) string { return string(b) }),
	)
	for shell, argv := range interpreters(t) {
		t.Run(shell, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				want := value.Draw(t, "value")
				script := shells.Bash(shells.Script{
					Variables: []shells.Variable{{Key: "VALUE", Value: want}},
					Blocks:    []shells.Block{{Silent: true, Commands: []string{`printf '%s' "$VALUE"`}}},
				})
				stdout, stderr, code := run(t, argv, script)
				require.Zero(t, code, stderr)
				require.Equal(t, want, stdout)
			})
		})
	}
}

func TestBashCarriesALargeValue(t *testing.T) {
	want := strings.Repeat("a'b\n$", 20<<10)
	script := shells.Bash(shells.Script{
		Variables: []shells.Variable{{Key: "VALUE", Value: want}},
		Blocks:    []shells.Block{{Silent: true, Commands: []string{`printf '%s' "$VALUE"`}}},
	})
	stdout, stderr, code := run(t, interpreters(t)["bash"], script)
	require.Zero(t, code, stderr)
	require.Equal(t, want, stdout)
}
