// Package process runs the programs that the helper needs: git and the shell. Each runs in a process
// group of its own, and when the work is given up all of the group is ended.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// grace is how long a program has to clean up after it was told to end.
const grace = 5 * time.Second

// ExitError says that a program ended without success.
type ExitError struct {
	// Program is what the user knows it by, for example "git fetch".
	Program string
	// Code is the exit code; 128 and the signal's number if a signal ended it.
	Code int
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s ended with exit code %d", e.Program, e.Code)
}

// Command is a program to be run.
type Command struct {
	// Name is what the user knows it by.
	Name string
	Args []string
	Dir  string
	Env  []string
	// Stdin of nil is an empty one.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Run runs a program and waits for it. An exit code other than 0 gives an *ExitError; when ctx ended
// first, the error is its cause. Programs that the program left running are left alone unless ctx
// ended.
func Run(ctx context.Context, c Command) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...)
	cmd.Dir, cmd.Env = c.Dir, c.Env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	ownGroup(cmd)
	cmd.Cancel = func() error { return endGroup(cmd) }
	cmd.WaitDelay = grace
	err := cmd.Run()
	if ctx.Err() != nil {
		if cmd.Process != nil {
			killGroup(cmd)
		}
		return context.Cause(ctx)
	}
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case errors.As(err, &exit):
		return &ExitError{Program: c.Name, Code: exitCode(exit)}
	default:
		return fmt.Errorf("running %s: %w", c.Name, err)
	}
}
