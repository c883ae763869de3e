package connector

import (
	"context"
	"errors"
	"io"
	"net"
)

// Client is an open connection to one instance. Its methods may be called concurrently.
type Client interface {
	// Dial opens a connection from the instance to addr, as seen from the instance. The networks
	// are "tcp" and "unix". When the instance cannot do it, IsForwardingRefused holds for the error.
	Dial(n string, addr string) (net.Conn, error)

	// Run runs a command and waits for it. A status other than zero gives an *ExitError. When ctx
	// ends, the command is hung up and the context's error returned. The writers are used from
	// different goroutines and not after Run has returned, unless one of them blocks.
	Run(ctx context.Context, opts RunOptions) error

	// DialRun runs a command and connects to it: what is written goes to its standard input, what
	// is read comes from its standard output. When the command fails, the read error tells how and
	// has the end of its standard error. ctx covers the whole life of the connection.
	DialRun(ctx context.Context, command string) (net.Conn, error)

	// Close ends everything that runs over the connection. Closing twice is no error.
	Close() error
}

// ContextDialer is implemented by clients whose Dial can be cancelled. ctx covers the dialing only.
type ContextDialer interface {
	DialContext(ctx context.Context, n string, addr string) (net.Conn, error)
}

// Monitored is implemented by clients that notice the loss of their connection, which is those of
// SSH. WinRM has no lasting connection.
type Monitored interface {
	// Done is closed when the connection is lost or closed.
	Done() <-chan struct{}

	// Err is nil until Done is closed. Then it wraps ErrConnectionLost or, after Close,
	// net.ErrClosed.
	Err() error
}

// ErrConnectionLost is wrapped by errors which the loss of an instance's connection caused.
var ErrConnectionLost = errors.New("connection lost")

// RunOptions is a command and its streams. A nil Stdin is empty, a nil writer discards.
type RunOptions struct {
	Command string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
}
