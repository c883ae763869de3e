package sources

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
)

// shells are those that run hooks, the best first.
var shells = []string{
	"/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash",
	"/usr/local/bin/sh", "/usr/bin/sh", "/bin/sh", "/busybox/sh",
}

// hooks runs the user's scripts, one after the other, in dir.
func (g *getter) hooks(ctx context.Context, name, dir string, scripts []string) error {
	if len(scripts) == 0 {
		return nil
	}
	shell, err := findShell()
	if err != nil {
		return fmt.Errorf("running %s: %w", name, err)
	}
	for _, script := range scripts {
		err := process.Run(ctx, process.Command{
			Name: name, Args: []string{shell}, Dir: dir,
			Env:    g.Environment.Entries("GIT_TERMINAL_PROMPT=0", "GCM_INTERACTIVE=Never"),
			Stdin:  strings.NewReader(script),
			Stdout: g.Console.Out, Stderr: g.Console.Err,
		})
		if err != nil {
			return err
		}
	}
	// What the hooks handed on holds for git, too.
	entries, _, err := g.Workspace.Variables()
	if err != nil {
		return err
	}
	g.Environment.Add(entries)
	return nil
}

func findShell() (string, error) {
	for _, shell := range shells {
		if path, err := exec.LookPath(shell); err == nil {
			return path, nil
		}
	}
	return "", errors.New("shell not found: the helper image has neither bash nor sh")
}
