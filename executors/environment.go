// Package executors holds the contract by which an executor reaches the machine it works on. An
// executor is handed an Environment and never asks where it came from: the docker executor runs on
// this machine's engine when it has none, and on an autoscaled instance when it has one.
//
// Executors and their wrappers import it; it imports nothing of ours.
package executors

import (
	"context"
	"errors"
	"io"
	"net"
)

// ErrGone is wrapped by the errors of Environment.Connect when the machine is lost for good.
var ErrGone = errors.New("the machine is gone")

// Environment is a machine that a job was given.
type Environment interface {
	// ID names the machine in logs, for example the instance id.
	ID() string

	// Connect returns a connection to the machine. Environments that share one connection among
	// jobs return a handle on it, so that Close ends the job's use and not the connection. An error that
	// wraps ErrGone is final.
	Connect(ctx context.Context) (Client, error)
}

// Client is a connection to a machine. It is safe for concurrent use.
type Client interface {
	// Dial opens a connection through this one to addr as seen from the machine. Networks: tcp,
	// unix, npipe.
	Dial(network, addr string) (net.Conn, error)

	// DialRun runs a command on the machine and returns its standard input and output as a
	// connection. The command lives until the connection is closed or ctx ends.
	DialRun(ctx context.Context, command string) (net.Conn, error)

	// Run runs a command on the machine and waits for it.
	Run(ctx context.Context, options RunOptions) error

	// Close ends the use of the connection. It may be called more than once.
	Close() error
}

// RunOptions say what Client.Run runs.
type RunOptions struct {
	Command string
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
}

// Slotted is an Environment that is one of several slots of its machine. Slot numbers begin at 0, are
// small and are used again.
type Slotted interface {
	Environment
	Slot() int
}
