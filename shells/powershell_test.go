package shells_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/shells"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a script with the file that has its name.
func golden(t *testing.T, name, script string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(script), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), script)
}

func typical() shells.Script {
	return shells.Script{
		Variables: []shells.Variable{
			{Key: "GREETING", Value: "say \"hi\" to $USER for `5`\nand \u201cbye\u201d"},
			{Key: "CERTIFICATE", Value: "-----BEGIN-----\n", File: true},
			{Key: "HOME", Value: "/root"},
			{Key: "not a name", Value: "left out"},
			{Key: "EMPTY"},
		},
		TmpDir: "/builds/group/project.tmp",
		Dir:    "/builds/group/project",
		Notice: "Running after script...",
		Blocks: []shells.Block{
			{Name: "pre_build_script", Silent: true, Commands: []string{"Write-Output silent"}},
			{Name: "script_step", Commands: []string{"Write-Output $env:GREETING", "", "if ($true) {\n  dotnet build\n}"}},
		},
	}
}

func TestPowerShellScripts(t *testing.T) {
	golden(t, "pwsh_linux.ps1", shells.PowerShell(typical(), shells.Pwsh, "linux"))
	golden(t, "powershell_windows.ps1", shells.PowerShell(typical(), shells.WindowsPowerShell, "windows"))
	traced := typical()
	traced.Trace, traced.FreshEnv = true, true
	golden(t, "pwsh_windows_trace.ps1", shells.PowerShell(traced, shells.Pwsh, "windows"))
}

// unquote reads a string in double quotes as PowerShell does. ok is false if it ends before the text
// does, or holds something that is expanded.
func unquote(text string) (plain string, ok bool) {
	runes := []rune(text)
	if len(runes) < 2 || runes[0] != '"' || runes[len(runes)-1] != '"' {
		return "", false
	}
	special := map[rune]rune{'0': 0, 'a': '\a', 'b': '\b', 'e': '\x1b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}
	var out strings.Builder
	inner := runes[1 : len(runes)-1]
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; c {
		case '"', '$', '\u201c', '\u201d', '\u201e', '\n', '\r':
			return "", false
		case '`':
			if i++; i == len(inner) {
				return "", false
			}
			if escaped, known := special[inner[i]]; known {
				out.WriteRune(escaped)
			} else {
				out.WriteRune(inner[i])
			}
		default:
			out.WriteRune(c)
		}
	}
	return out.String(), true
}

// Every value is one string that nothing is expanded in, by PowerShell's own rules of quoting.
func TestPowerShellCarriesEveryValueUnchanged(t *testing.T) {
	value := rapid.StringOf(rapid.RuneFrom([]rune("`$\"'\u201c\u201d\u201e\u2018\u2019{}()%\a\b\f\n\r\t\v\x00\x1beE0#aä€😀 ")))
	rapid.Check(t, func(t *rapid.T) {
		want := value.Draw(t, "value")
		script := shells.PowerShell(shells.Script{Variables: []shells.Variable{{Key: "VALUE", Value: want}}}, shells.Pwsh, "linux")
		_, rest, found := strings.Cut(script, "${VALUE}=")
		require.True(t, found)
		literal, _, _ := strings.Cut(rest, "\n${env:VALUE}")
		got, ok := unquote(literal)
		require.True(t, ok, literal)
		require.Equal(t, want, got)
	})
}
