package connector

import (
	"io"
	"net"
	"sync"
	"time"
)

// memoryPipe is a pair of network connections in memory. Unlike net.Pipe it has buffers, as SSH
// needs, and unlike TCP it works under testing/synctest.
func memoryPipe() (net.Conn, net.Conn) {
	a, b := newMemoryBuffer(), newMemoryBuffer()
	return &memoryConn{in: a, out: b}, &memoryConn{in: b, out: a}
}

type memoryBuffer struct {
	mu     sync.Mutex
	change *sync.Cond
	data   []byte
	closed bool
}

func newMemoryBuffer() *memoryBuffer {
	b := &memoryBuffer{}
	b.change = sync.NewCond(&b.mu)
	return b
}

func (b *memoryBuffer) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.change.Broadcast()
}

const memoryBufferSize = 64 << 10

type memoryConn struct {
	in, out *memoryBuffer
}

func (c *memoryConn) Read(p []byte) (int, error) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	for len(c.in.data) == 0 {
		if c.in.closed {
			return 0, io.EOF
		}
		c.in.change.Wait()
	}
	n := copy(p, c.in.data)
	c.in.data = c.in.data[n:]
	c.in.change.Broadcast()
	return n, nil
}

func (c *memoryConn) Write(p []byte) (int, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	total := 0
	for len(p) > 0 {
		for len(c.out.data) >= memoryBufferSize && !c.out.closed {
			c.out.change.Wait()
		}
		if c.out.closed {
			return total, io.ErrClosedPipe
		}
		n := min(len(p), memoryBufferSize-len(c.out.data))
		c.out.data = append(c.out.data, p[:n]...)
		c.out.change.Broadcast()
		total += n
		p = p[n:]
	}
	return total, nil
}

func (c *memoryConn) CloseWrite() error {
	c.out.close()
	return nil
}

func (c *memoryConn) Close() error {
	c.in.close()
	c.out.close()
	return nil
}

func (c *memoryConn) LocalAddr() net.Addr              { return tunnelAddr{"memory", "local"} }
func (c *memoryConn) RemoteAddr() net.Addr             { return tunnelAddr{"memory", "remote"} }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }
