package connector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// channelTimeout bounds the opening of a channel: the instance itself may have to connect first.
const channelTimeout = 30 * time.Second

type sshClient struct {
	conn    *ssh.Client
	monitor *monitor
}

// Done is closed when the connection is lost or closed.
func (c *sshClient) Done() <-chan struct{} { return c.monitor.done }

// Err tells why Done is closed.
func (c *sshClient) Err() error { return c.monitor.err() }

// Close ends everything that runs over the connection.
func (c *sshClient) Close() error { return c.monitor.close() }

// Dial opens a connection from the instance. It fails when the instance gives no answer for 30
// seconds.
func (c *sshClient) Dial(n string, addr string) (net.Conn, error) {
	return c.DialContext(context.Background(), n, addr)
}

// DialContext is Dial with a context for the dialing.
func (c *sshClient) DialContext(ctx context.Context, n string, addr string) (net.Conn, error) {
	switch n {
	case "tcp", "tcp4", "tcp6", "unix":
	default:
		err := &ForwardingError{Network: n, Address: addr, Certain: true, Err: errors.New("ssh forwards only tcp and unix")}
		return nil, fmt.Errorf("ssh tunnel: %w", err)
	}

	limited, cancel := context.WithTimeout(ctx, channelTimeout)
	defer cancel()
	conn, err := c.conn.DialContext(limited, n, addr)
	if err != nil {
		return nil, fmt.Errorf("ssh tunnel: %w", c.channelError(limited, err, n, addr))
	}
	forward := &forwardStream{Conn: conn, monitor: c.monitor}
	t, err := newTunnel(context.Background(), c.monitor.tasks, forward, conn.LocalAddr(), conn.RemoteAddr())
	if err != nil {
		return nil, fmt.Errorf("ssh tunnel: %w", err)
	}
	return t, nil
}

// channelError says what the failure to open a channel means.
func (c *sshClient) channelError(ctx context.Context, err error, network, address string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("dial %s %s from the instance: %w", network, address, contextError(ctx))
	}
	var rejected *ssh.OpenChannelError
	if !errors.As(err, &rejected) {
		return c.explain(err)
	}
	switch {
	case rejected.Reason == ssh.Prohibited || rejected.Reason == ssh.UnknownChannelType:
		return &ForwardingError{Network: network, Address: address, Certain: true, Err: remoteError{rejected}}
	case network == "unix" && rejected.Reason == ssh.ConnectionFailed:
		return &ForwardingError{Network: network, Address: address, Err: remoteError{rejected}}
	default:
		return fmt.Errorf("dial %s %s from the instance: %w", network, address, remoteError{rejected})
	}
}

// explain replaces an error that the loss of the connection caused by that of the loss.
func (c *sshClient) explain(err error) error {
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return exitErrorOf(exit)
	}
	if lost := c.monitor.lost(); lost != nil {
		return lost
	}
	return remoteError{err}
}

func exitErrorOf(err *ssh.ExitError) error {
	signal := err.Signal()
	if len(signal) > 16 {
		signal = signal[:16]
	}
	return &ExitError{code: err.ExitStatus(), signal: cleanText(signal)}
}

// forwardStream is a forwarded connection. Its end is only reported as such if the SSH connection
// lives: SSH ends the streams of a lost connection in the same way as those that are complete.
type forwardStream struct {
	net.Conn
	monitor *monitor
}

func (s *forwardStream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	return n, s.explain(err, io.EOF)
}

func (s *forwardStream) Write(p []byte) (int, error) {
	n, err := s.Conn.Write(p)
	return n, s.explain(err, io.ErrClosedPipe)
}

// explain tells the end of the connection from the end of the stream.
func (s *forwardStream) explain(err, ended error) error {
	if err == nil {
		return nil
	}
	if lost := s.monitor.lost(); lost != nil {
		return fmt.Errorf("ssh tunnel: %w", lost)
	}
	if errors.Is(err, io.EOF) {
		return ended
	}
	return fmt.Errorf("ssh tunnel: %w", remoteError{err})
}

func (s *forwardStream) CloseWrite() error {
	half, ok := s.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return ignoreClosed(half.CloseWrite())
}

func (s *forwardStream) Close() error { return ignoreClosed(s.Conn.Close()) }

// sessionError says what the failure to open a session or to start a command in it means.
func (c *sshClient) sessionError(err error) error {
	var rejected *ssh.OpenChannelError
	switch {
	case errors.As(err, &rejected):
		return fmt.Errorf("%w: %w", errSessionLimit, remoteError{rejected})
	case strings.HasPrefix(err.Error(), "ssh: command "):
		// The text repeats the command, which may be long.
		return errors.New("the server refused to start the command")
	default:
		return c.explain(err)
	}
}
