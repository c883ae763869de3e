package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// hangupGrace is how long a cancelled command may still write before it is abandoned.
const hangupGrace = 2 * time.Second

// Run runs a command in a session of its own.
func (c *sshClient) Run(ctx context.Context, opts RunOptions) error {
	stdout, stderr := newGate(opts.Stdout), newGate(opts.Stderr)
	session, err := c.startCommand(ctx, opts.Command, func(session *ssh.Session) error {
		session.Stdin, session.Stdout, session.Stderr = opts.Stdin, stdout, stderr
		return nil
	})
	if err != nil {
		return fmt.Errorf("ssh run: %w", err)
	}
	defer session.Close()

	ended := make(chan error, 1)
	go func() { ended <- session.Wait() }()

	select {
	case err := <-ended:
		return c.runError(err)
	case <-ctx.Done():
	}

	hangUp(session)
	select {
	case <-ended:
	case <-time.After(hangupGrace):
		stdout.shut()
		stderr.shut()
	}
	return fmt.Errorf("ssh run: %w", contextError(ctx))
}

func (c *sshClient) runError(err error) error {
	if err == nil {
		return nil
	}
	if err = c.explain(err); errors.As(err, new(*ExitError)) {
		return err
	}
	return fmt.Errorf("ssh run: %w", err)
}

// DialRun runs a command in a session of its own and connects to it.
func (c *sshClient) DialRun(ctx context.Context, command string) (net.Conn, error) {
	process := &processStream{name: "ssh tunnel", stderr: &tail{}}

	session, err := c.startCommand(ctx, command, func(session *ssh.Session) error {
		session.Stderr = process.stderr
		stdin, err := session.StdinPipe()
		if err != nil {
			return err
		}
		stdout, err := session.StdoutPipe()
		if err != nil {
			return err
		}
		process.stdin, process.stdout = stdin, stdout
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ssh tunnel: %w", err)
	}

	var (
		exited = make(chan struct{})
		exit   error
	)
	process.exited, process.exit = exited, &exit
	process.stop = func() error { return hangUp(session) }
	wait := func() {
		defer close(exited)
		if err := session.Wait(); err != nil {
			exit = c.explain(err)
		}
	}
	if err := c.monitor.tasks.start(wait); err != nil {
		session.Close()
		return nil, fmt.Errorf("ssh tunnel: %w", err)
	}

	addr := tunnelAddr{network: "ssh", address: "command"}
	conn, err := newTunnel(ctx, c.monitor.tasks, process, addr, addr)
	if err != nil {
		return nil, fmt.Errorf("ssh tunnel: %w", err)
	}
	return conn, nil
}

// startCommand opens a session, has it prepared and starts the command. ctx covers just that.
func (c *sshClient) startCommand(ctx context.Context, command string, prepare func(*ssh.Session) error) (*ssh.Session, error) {
	limited, cancel := context.WithTimeout(ctx, channelTimeout)
	defer cancel()

	var session *ssh.Session
	opened, err := await(limited, c.conn.NewSession, func(late *ssh.Session) { late.Close() })
	if err == nil {
		session = opened
		err = prepare(session)
	}
	if err == nil {
		start := func() (struct{}, error) { return struct{}{}, session.Start(command) }
		_, err = await(limited, start, func(struct{}) {})
	}
	if err == nil {
		return session, nil
	}

	if session != nil {
		hangUp(session)
	}
	if limited.Err() != nil {
		return nil, fmt.Errorf("starting a command: %w", contextError(limited))
	}
	return nil, fmt.Errorf("starting a command: %w", c.sessionError(err))
}

// await gives up waiting for call when ctx ends; call itself ends with the connection at the latest,
// and a result it still has is discarded.
func await[T any](ctx context.Context, call func() (T, error), discard func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	results := make(chan result)
	go func() {
		value, err := call()
		select {
		case results <- result{value, err}:
		case <-ctx.Done():
			if err == nil {
				discard(value)
			}
		}
	}()

	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// hangUp asks the command of a session to end, and closes the session. Without a terminal, a server
// just closes the command's streams, which a command that does not use them never notices; hence the
// signals, the second for commands that inherited to ignore the first. OpenSSH delivers them unless the
// user is root.
func hangUp(session *ssh.Session) error {
	_ = session.Signal(ssh.SIGHUP)
	_ = session.Signal(ssh.SIGTERM)
	return ignoreClosed(session.Close())
}

// gate passes writes on until it is shut.
type gate struct {
	writer io.Writer
	// turn holds the right to write; shut takes it for good.
	turn chan struct{}
	end  chan struct{}
}

func newGate(w io.Writer) *gate {
	if w == nil {
		w = io.Discard
	}
	return &gate{writer: w, turn: make(chan struct{}, 1), end: make(chan struct{})}
}

func (g *gate) Write(p []byte) (int, error) {
	select {
	case <-g.end:
		return 0, io.ErrClosedPipe
	case g.turn <- struct{}{}:
	}
	defer func() { <-g.turn }()
	select {
	case <-g.end:
		return 0, io.ErrClosedPipe
	default:
		return g.writer.Write(p)
	}
}

// shut lets a write that has begun end, unless the writer blocks.
func (g *gate) shut() {
	close(g.end)
	select {
	case g.turn <- struct{}{}:
	case <-time.After(hangupGrace):
	}
}
