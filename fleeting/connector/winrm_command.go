package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// cleanUpTime bounds the requests that end a command and its shell.
const cleanUpTime = 10 * time.Second

// winrmCommand is a command in a shell of its own.
type winrmCommand struct {
	client    *winRMClient
	shell, id string
}

// startCommand opens a shell and starts a command in it.
func (c *winRMClient) startCommand(ctx context.Context, command string, piped bool) (*winrmCommand, error) {
	shell, err := c.openShell(ctx)
	if err != nil {
		return nil, err
	}
	started := &winrmCommand{client: c, shell: shell}
	answer, err := c.call(ctx, commandRequest(shell, command, piped))
	if err == nil {
		started.id, err = answer.command()
	}
	if err != nil {
		started.cleanUp(ctx)
		return nil, fmt.Errorf("starting a command: %w", err)
	}
	return started, nil
}

// cleanUp ends the command, if it still runs, and the shell. Its failure leaves both to the server's
// own time limits.
func (c *winrmCommand) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	if c.id != "" {
		_, _ = c.client.call(ctx, terminateRequest(c.shell, c.id))
	}
	_, _ = c.client.call(ctx, closeShellRequest(c.shell))
}

// receive passes the output on until the command has ended.
func (c *winrmCommand) receive(ctx context.Context, stdout, stderr io.Writer) error {
	for {
		answer, err := c.client.call(ctx, receiveRequest(c.shell, c.id))
		if fault := (*wsmanFault)(nil); errors.As(err, &fault) && fault.code == wsmanOperationTimeout {
			continue
		}
		if err != nil {
			return err
		}
		output, err := answer.output()
		if err != nil {
			return err
		}
		if _, err := stdout.Write(output.stdout); err != nil {
			return fmt.Errorf("writing the command's output: %w", err)
		}
		if _, err := stderr.Write(output.stderr); err != nil {
			return fmt.Errorf("writing the command's output: %w", err)
		}
		if output.done && output.exitCode != 0 {
			return &ExitError{code: output.exitCode}
		}
		if output.done {
			return nil
		}
	}
}

// winrmStdin sends what is written to a command.
type winrmStdin struct {
	command *winrmCommand
	ctx     context.Context
	mu      sync.Mutex
	ended   bool
}

func (s *winrmStdin) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		chunk := p[:min(len(p), tunnelBuffer)]
		if err := s.send(chunk, false); err != nil {
			return total, err
		}
		total += len(chunk)
		p = p[len(chunk):]
	}
	return total, nil
}

func (s *winrmStdin) Close() error { return s.send(nil, true) }

func (s *winrmStdin) send(p []byte, end bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return io.ErrClosedPipe
	}
	s.ended = end
	_, err := s.command.client.call(s.ctx, sendRequest(s.command.shell, s.command.id, p, end))
	return err
}

// Run runs a command in a shell of its own. The command's input is a pipe if opts.Stdin is set.
func (c *winRMClient) Run(ctx context.Context, opts RunOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.tasks.ctx, func() { cancel(context.Cause(c.tasks.ctx)) })()

	command, err := c.startCommand(ctx, opts.Command, opts.Stdin != nil)
	if err != nil {
		return c.runError(ctx, err)
	}
	defer command.cleanUp(ctx)

	if opts.Stdin != nil {
		stdin := &winrmStdin{command: command, ctx: ctx}
		go func() {
			// The command need not read its input; if it does, it fails by itself.
			_, _ = io.Copy(stdin, opts.Stdin)
			_ = stdin.Close()
		}()
	}
	return c.runError(ctx, command.receive(ctx, orDiscard(opts.Stdout), orDiscard(opts.Stderr)))
}

func (c *winRMClient) runError(ctx context.Context, err error) error {
	if err == nil || errors.As(err, new(*ExitError)) {
		return err
	}
	if ctx.Err() != nil {
		err = contextError(ctx)
	}
	return fmt.Errorf("winrm run: %w", err)
}

// DialRun runs a command in a shell of its own and connects to it.
func (c *winRMClient) DialRun(ctx context.Context, command string) (net.Conn, error) {
	running, cancel := context.WithCancelCause(c.tasks.ctx)

	// Until the connection exists, the end of ctx has to be passed on.
	release := context.AfterFunc(ctx, func() { cancel(contextError(ctx)) })
	started, err := c.startCommand(running, command, true)
	if !release() || err != nil {
		if err == nil {
			started.cleanUp(running)
		}
		switch {
		case ctx.Err() != nil:
			err = contextError(ctx)
		case running.Err() != nil:
			err = contextError(running)
		}
		cancel(nil)
		return nil, fmt.Errorf("winrm tunnel: %w", err)
	}

	var (
		output, stdout = io.Pipe()
		exited         = make(chan struct{})
		exit           error
	)
	process := &processStream{
		name:   "winrm tunnel",
		stdin:  &winrmStdin{command: started, ctx: running},
		stdout: output,
		stderr: &tail{},
		exited: exited,
		exit:   &exit,
		stop: func() error {
			cancel(net.ErrClosed)
			return output.Close()
		},
	}
	receive := func() {
		exit = started.receive(running, stdout, process.stderr)
		close(exited)
		stdout.Close()
		started.cleanUp(running)
		cancel(nil)
	}
	if err := c.tasks.start(receive); err != nil {
		started.cleanUp(running)
		cancel(nil)
		return nil, fmt.Errorf("winrm tunnel: %w", err)
	}

	addr := tunnelAddr{network: "winrm", address: "command"}
	conn, err := newTunnel(ctx, c.tasks, process, addr, addr)
	if err != nil {
		return nil, fmt.Errorf("winrm tunnel: %w", err)
	}
	return conn, nil
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
