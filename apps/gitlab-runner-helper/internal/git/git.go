// Package git runs the real git for the helper and writes configuration files for it. Credentials go
// through such files only: never into arguments or the environment.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
)

// maxTail is how much of git's messages is kept for finding out what failed.
const maxTail = 16 << 10

// Setting is one entry of git's configuration, with its full name.
type Setting struct {
	Key, Value string
}

// Git runs git. It is not safe for concurrent use.
type Git struct {
	console     *console.Console
	environment *process.Environment
}

// New returns a Git whose processes have the given environment, and write to the console.
func New(c *console.Console, environment *process.Environment) *Git {
	return &Git{console: c, environment: environment}
}

// Configure puts settings before everything that configuration files say, for all processes from now
// on and for those they start. They are part of the environment: no secrets here.
func (g *Git) Configure(settings ...Setting) error {
	// The user may have put settings there, too.
	count, err := strconv.Atoi(g.environment.Get("GIT_CONFIG_COUNT"))
	if err != nil || count < 0 {
		count = 0
	}
	for _, s := range settings {
		err = errors.Join(
			g.environment.Set(fmt.Sprintf("GIT_CONFIG_KEY_%d", count), s.Key),
			g.environment.Set(fmt.Sprintf("GIT_CONFIG_VALUE_%d", count), s.Value),
		)
		if err != nil {
			return err
		}
		count++
	}
	return g.environment.Set("GIT_CONFIG_COUNT", strconv.Itoa(count))
}

// Distrust keeps git from running what the job may have put into the project's configuration. It
// trusts the directory all the same, whoever owns it.
func (g *Git) Distrust(dir string) error {
	return g.Configure(append(Trust(dir),
		Setting{"core.hooksPath", "/dev/null"},
		Setting{"core.fsmonitor", "false"},
	)...)
}

// Trust returns the settings that make git work in dir and its submodules, whoever owns them.
func Trust(dir string) []Setting {
	return []Setting{{"safe.directory", dir}, {"safe.directory", dir + "/*"}}
}

// Error says that git failed.
type Error struct {
	*process.ExitError
	// Messages is the end of what it said on standard error.
	Messages string
}

func (e *Error) Unwrap() error { return e.ExitError }

// Run runs git in dir. What it says goes to the console. A failure of git gives an *Error.
func (g *Git) Run(ctx context.Context, dir string, args ...string) error {
	return g.run(ctx, call{dir: dir, args: args, stdout: g.console.Out})
}

// Output runs git in dir and returns up to limit bytes of its standard output; more are an error.
func (g *Git) Output(ctx context.Context, dir string, limit int, args ...string) ([]byte, error) {
	out := &bounded{limit: limit}
	if err := g.run(ctx, call{dir: dir, args: args, stdout: out}); err != nil {
		return nil, err
	}
	if out.exceeded {
		return nil, fmt.Errorf("git %s: the output is longer than %d bytes", command(args), limit)
	}
	return out.content.Bytes(), nil
}

// Feed runs git quietly in dir with a text on its standard input.
func (g *Git) Feed(ctx context.Context, dir, stdin string, args ...string) error {
	return g.run(ctx, call{dir: dir, args: args, stdin: strings.NewReader(stdin), stdout: io.Discard})
}

type call struct {
	dir    string
	args   []string
	stdin  io.Reader
	stdout io.Writer
}

func (g *Git) run(ctx context.Context, c call) error {
	messages := &tail{}
	err := process.Run(ctx, process.Command{
		Name: "git " + command(c.args),
		Args: append([]string{"git"}, c.args...),
		Dir:  c.dir,
		// Messages are looked at: they must be in English.
		Env:    g.environment.Entries("GIT_TERMINAL_PROMPT=0", "GCM_INTERACTIVE=Never", "LC_ALL=C.UTF-8", "LANGUAGE="),
		Stdin:  c.stdin,
		Stdout: c.stdout,
		Stderr: io.MultiWriter(g.console.Err, messages),
	})
	var exit *process.ExitError
	if errors.As(err, &exit) {
		return &Error{ExitError: exit, Messages: string(messages.content)}
	}
	return err
}

// Supports says whether git knows a sub-command that is a program of its own, such as lfs.
func (g *Git) Supports(ctx context.Context, subcommand string) bool {
	if _, err := exec.LookPath("git-" + subcommand); err == nil {
		return true
	}
	execPath, err := g.Output(ctx, "", 4096, "--exec-path")
	if err != nil {
		return false
	}
	_, err = exec.LookPath(filepath.Join(strings.TrimSpace(string(execPath)), "git-"+subcommand))
	return err == nil
}

// AtLeast says whether git is of this version or a later one.
func (g *Git) AtLeast(ctx context.Context, major, minor int) bool {
	out, err := g.Output(ctx, "", 4096, "version")
	if err != nil {
		return false
	}
	var haveMajor, haveMinor int
	if _, err := fmt.Sscanf(string(out), "git version %d.%d", &haveMajor, &haveMinor); err != nil {
		return false
	}
	return haveMajor > major || haveMajor == major && haveMinor >= minor
}

// command is the sub-command in arguments that may begin with -c key=value.
func command(args []string) string {
	for i := 0; i < len(args); i++ {
		if args[i] == "-c" {
			i++
			continue
		}
		return args[i]
	}
	return ""
}

// tail keeps the end of what is written to it.
type tail struct {
	content []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.content = append(t.content, p...)
	if over := len(t.content) - maxTail; over > 0 {
		t.content = append(t.content[:0], t.content[over:]...)
	}
	return len(p), nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	content  bytes.Buffer
	limit    int
	exceeded bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.content.Len()+len(p) > b.limit {
		b.exceeded = true
		return len(p), nil
	}
	return b.content.Write(p)
}
