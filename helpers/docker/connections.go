package docker

import (
	"context"
	"errors"
	"net"
	"sync"
)

// errClosed is what a closed Client answers.
var errClosed = errors.New("connection to the docker engine was closed")

// connections knows every connection of a client, so that closing the client closes them all.
type connections struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

func newConnections() *connections {
	return &connections{open: map[net.Conn]struct{}{}}
}

// tracked returns a dialer whose connections are known here until they are closed.
func (c *connections) tracked(dial DialFunc) DialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			_ = conn.Close()
			return nil, errClosed
		}
		c.open[conn] = struct{}{}
		return &trackedConn{Conn: conn, owner: c}, nil
	}
}

func (c *connections) closeAll() {
	c.mu.Lock()
	open := c.open
	c.open, c.closed = map[net.Conn]struct{}{}, true
	c.mu.Unlock()
	for conn := range open {
		_ = conn.Close()
	}
}

func (c *connections) forget(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

type trackedConn struct {
	net.Conn
	owner *connections
}

func (c *trackedConn) Close() error {
	c.owner.forget(c.Conn)
	return c.Conn.Close()
}

// CloseWrite ends what is sent. A connection that cannot do so is left open: the other side then has to
// know by itself where its input ends.
func (c *trackedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
