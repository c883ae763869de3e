package shells

import (
	"fmt"
	"path"
	"regexp"
	"strings"
)

const (
	green  = "\x1b[32;1m"
	yellow = "\x1b[0;33m"
	reset  = "\x1b[0;m"
)

// identifier is what a shell accepts as the name of a variable. Others cannot be exported by a script;
// they are in the container's environment all the same.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readOnly matches the variables that bash does not let anybody set; other shells do.
var readOnly = regexp.MustCompile(`^(BASHOPTS|BASH_VERSINFO|EUID|PPID|SHELLOPTS|UID)$`)

// Bash returns the script for bash and for every POSIX shell. It is meant for standard input; its exit
// code is that of the command that failed.
func Bash(s Script) string {
	var out strings.Builder
	out.WriteString("#!/usr/bin/env bash\n")
	// A shell that is told to end must not go on to print the text it was still to read.
	out.WriteString("trap 'exit 1' TERM\n")
	out.WriteString("if (set -o pipefail) 2>/dev/null; then set -o pipefail; fi\n")
	out.WriteString("set -o errexit\nset +o noclobber\n")
	// The body is one quoted word: it cannot read the rest of standard input as data, and a syntax
	// error in it is reported as one of its own.
	fmt.Fprintf(&out, "(trap 'exit 1' TERM; eval %s) </dev/null\nexit 0\n", Quote(bashBody(s)))
	return out.String()
}

// Quote returns text as one word of a POSIX shell, whatever it holds.
func Quote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func bashBody(s Script) string {
	var out strings.Builder
	b := bashWriter{out: &out, script: s}
	if s.Trace {
		// Only from here on: outside, the shell would show the whole body as one word.
		out.WriteString("set -o xtrace\n")
	}
	b.environment()
	if s.Dir != "" {
		b.directory(s.Dir)
		fmt.Fprintf(&out, "cd %s\n", Quote(s.Dir))
	}
	if s.Notice != "" {
		b.show(green + s.Notice + reset)
	}
	for _, block := range s.Blocks {
		for i, command := range block.Commands {
			b.command(block, i, command)
		}
	}
	return out.String()
}

type bashWriter struct {
	out    *strings.Builder
	script Script
}

func (b bashWriter) environment() {
	if b.script.TmpDir != "" {
		b.directory(b.script.TmpDir)
	}
	for _, v := range b.script.Variables {
		if !identifier.MatchString(v.Key) {
			continue
		}
		value := Quote(v.Value)
		if v.File {
			file := Quote(path.Join(b.script.TmpDir, v.Key))
			fmt.Fprintf(b.out, "printf '%%s' %s > %s\n", value, file)
			value = file
		}
		b.export(v.Key, value)
	}
	if b.script.TmpDir == "" {
		return
	}
	file := Quote(path.Join(b.script.TmpDir, EnvFile))
	fmt.Fprintf(b.out, "export GITLAB_ENV=%s\n", file)
	if b.script.FreshEnv {
		fmt.Fprintf(b.out, "rm -f %s\n", file)
	}
	fmt.Fprintf(b.out, readEnvFile, file)
}

// export hands a quoted value on. A variable that is the shell's own must not end the script.
func (b bashWriter) export(key, value string) {
	if !readOnly.MatchString(key) {
		fmt.Fprintf(b.out, "export %s=%s\n", key, value)
		return
	}
	fmt.Fprintf(b.out, "if (export %[1]s=%[2]s) 2>/dev/null; then export %[1]s=%[2]s; else\n", key, value)
	b.show(yellow + "WARNING: the variable " + key + " cannot be set in this shell and keeps the shell's own value" + reset)
	b.out.WriteString("fi\n")
}

// readEnvFile exports the lines of a file that have the form NAME=value. Others must not end the script.
const readEnvFile = `if [ -f %[1]s ]; then while IFS= read -r _runner_line || [ -n "$_runner_line" ]; do
case "$_runner_line" in *=*) case "${_runner_line%%%%=*}" in ''|[0-9]*|*[!A-Za-z0-9_]*) ;; BASHOPTS|BASH_VERSINFO|EUID|PPID|SHELLOPTS|UID) if (export "$_runner_line") 2>/dev/null; then export "$_runner_line"; fi ;; *) export "$_runner_line" ;; esac ;; esac
done < %[1]s; else : >> %[1]s; fi
`

// directory makes a directory without starting a program where it is there.
func (b bashWriter) directory(dir string) {
	fmt.Fprintf(b.out, "[ -d %[1]s ] || mkdir -p %[1]s\n", Quote(dir))
}

func (b bashWriter) show(text string) {
	fmt.Fprintf(b.out, "printf '%%s\\n' %s\n", Quote(text))
}

func (b bashWriter) command(block Block, index int, command string) {
	command = strings.TrimSpace(command)
	if command == "" {
		b.show("")
		return
	}
	first, _, several := strings.Cut(command, "\n")
	switch {
	case block.Silent:
	case several && b.script.Sections:
		name := fmt.Sprintf("section_%s_%d", block.Name, index)
		fmt.Fprintf(b.out, "printf 'section_start:%%s:%%s\\r\\033[0K%%s\\n' \"$(date +%%s)\" %s %s\n",
			Quote(name+"[hide_duration=true,collapsed=true]"), Quote(green+"$ "+command+reset))
		fmt.Fprintf(b.out, "printf 'section_end:%%s:%%s\\r\\033[0K\\n' \"$(date +%%s)\" %s\n", Quote(name))
	case several:
		b.show(green + "$ " + strings.TrimRight(first, " \r") + " # collapsed multi-line command" + reset)
	default:
		b.show(green + "$ " + command + reset)
	}
	b.out.WriteString(command + "\n")
	if b.script.CheckExitCodes {
		b.out.WriteString("_runner_exit_code=$?; if [ $_runner_exit_code -ne 0 ]; then exit $_runner_exit_code; fi\n")
	}
}
