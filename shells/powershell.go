package shells

import (
	"fmt"
	"regexp"
	"strings"
)

// Edition is one of the two kinds of PowerShell.
type Edition int

// The editions.
const (
	// Pwsh is PowerShell 6 and later, on every system.
	Pwsh Edition = iota
	// WindowsPowerShell is the one of Windows, version 5.
	WindowsPowerShell
)

// automatic matches the names that PowerShell does not let a script set, or that a script needs as they
// are. Variables of the job with such a name exist in the environment only.
var automatic = regexp.MustCompile(`(?i)^(args|consolefilename|enabledexperimentalfeatures|error|erroractionpreference|event|eventargs|eventsubscriber|executioncontext|false|foreach|home|host|input|iscoreclr|islinux|ismacos|iswindows|lastexitcode|matches|myinvocation|nestedpromptlevel|null|pid|profile|psboundparameters|pscmdlet|pscommandpath|psculture|psdebugcontext|psedition|pshome|psitem|psscriptroot|pssenderinfo|psuiculture|psversiontable|pwd|sender|shellid|stacktrace|switch|this|true)$`)

// PowerShell returns the script for a PowerShell on a system (windows or another, as in GOOS) that reads
// it from standard input. Its exit code is that of the command that failed, or 1.
//
// Values arrive unchanged if they are UTF-8: PowerShell keeps texts as UTF-16.
func PowerShell(s Script, edition Edition, system string) string {
	w := powershellWriter{script: s, newLine: "\n"}
	if system == "windows" {
		w.newLine = "\r\n"
	} else if edition == Pwsh {
		w.line("#!/usr/bin/env pwsh")
	}
	// One block: nothing of the script is run before all of it was read.
	w.line("& {")
	if edition == Pwsh {
		w.line(`$ErrorActionPreference = "Stop"`)
	}
	if s.Trace {
		w.line("Set-PSDebug -Trace 2")
	}
	w.environment()
	if s.Dir != "" {
		w.directory(s.Dir)
		w.checked("Set-Location -LiteralPath " + quotePowerShell(s.Dir))
	}
	if s.Notice != "" {
		w.show(green + s.Notice + reset)
	}
	for _, block := range s.Blocks {
		for _, command := range block.Commands {
			w.command(block, command)
		}
	}
	w.line("}")
	// Without an empty line the block would not count as complete.
	w.line("")
	return w.out.String()
}

// powershellEscapes are the characters that mean something between double quotes, or cannot stand there
// for what they are. Three kinds of typographic quotes end a string as the plain one does.
var powershellEscapes = strings.NewReplacer(
	"`", "``", "$", "`$", `"`, "`\"", "\u201c", "`\u201c", "\u201d", "`\u201d", "\u201e", "`\u201e",
	"\x00", "`0", "\a", "`a", "\b", "`b", "\f", "`f", "\n", "`n", "\r", "`r", "\t", "`t", "\v", "`v",
)

// quotePowerShell returns text as one string of PowerShell, on one line, whatever it holds.
func quotePowerShell(text string) string {
	return `"` + powershellEscapes.Replace(text) + `"`
}

type powershellWriter struct {
	out     strings.Builder
	script  Script
	newLine string
}

func (w *powershellWriter) line(text string) { w.out.WriteString(text + w.newLine) }

// checked writes a command whose failure ends the script.
func (w *powershellWriter) checked(command string) {
	w.line(command)
	w.line("if (-not $?) { if ($LASTEXITCODE) { exit $LASTEXITCODE }; exit 1 }")
}

func (w *powershellWriter) show(text string) {
	w.line("Write-Output " + quotePowerShell(text))
}

func (w *powershellWriter) directory(dir string) {
	w.checked("[System.IO.Directory]::CreateDirectory(" + quotePowerShell(dir) + ") | Out-Null")
}

func (w *powershellWriter) environment() {
	if w.script.TmpDir != "" {
		w.directory(w.script.TmpDir)
	}
	for _, v := range w.script.Variables {
		if !identifier.MatchString(v.Key) {
			continue
		}
		value := quotePowerShell(v.Value)
		if v.File {
			file := quotePowerShell(w.inTmp(v.Key))
			w.line(fmt.Sprintf("[System.IO.File]::WriteAllText(%s, %s)", file, value))
			value = file
		}
		w.set(v.Key, value)
	}
	if w.script.TmpDir == "" {
		return
	}
	file := quotePowerShell(w.inTmp(EnvFile))
	w.set("GITLAB_ENV", file)
	if w.script.FreshEnv {
		w.line(fmt.Sprintf("[System.IO.File]::Delete(%s)", file))
	}
	w.line(fmt.Sprintf("if (-not [System.IO.File]::Exists(%[1]s)) { [System.IO.File]::WriteAllText(%[1]s, \"\") }", file))
	w.line(fmt.Sprintf("foreach ($_runner_line in [System.IO.File]::ReadAllLines(%s)) {", file))
	w.line(`if ($_runner_line -match '^([A-Za-z_][A-Za-z0-9_]*)=(.*)$') {`)
	w.line(`[System.Environment]::SetEnvironmentVariable($Matches[1], $Matches[2])`)
	w.line("}")
	w.line("}")
}

// set makes a variable of the environment and, where its name allows, one of PowerShell's own.
func (w *powershellWriter) set(key, value string) {
	if automatic.MatchString(key) {
		w.line(fmt.Sprintf("${env:%s}=%s", key, value))
		return
	}
	w.line(fmt.Sprintf("${%s}=%s", key, value))
	w.line(fmt.Sprintf("${env:%[1]s}=${%[1]s}", key))
}

func (w *powershellWriter) inTmp(name string) string {
	return strings.TrimRight(w.script.TmpDir, "/") + "/" + name
}

func (w *powershellWriter) command(block Block, command string) {
	command = strings.TrimSpace(command)
	if command == "" {
		w.show("")
		return
	}
	first, _, several := strings.Cut(command, "\n")
	switch {
	case block.Silent:
	case several:
		w.show(green + "$ " + strings.TrimRight(first, " \r") + " # collapsed multi-line command" + reset)
	default:
		w.show(green + "$ " + command + reset)
	}
	w.checked(command)
}
