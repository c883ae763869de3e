package connector

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// stream is what a tunnel carries. Read and Write may block until Close.
type stream interface {
	io.ReadWriter
	// CloseWrite tells the other end that nothing more will be written.
	CloseWrite() error
	// Close ends both directions; a blocked Read or Write returns then, at the latest when the
	// client it belongs to is closed.
	Close() error
}

const tunnelBuffer = 32 << 10

// tunnel makes a net.Conn of a stream: it adds deadlines and the two half closes. A pair of
// goroutines does the blocking calls, so that a deadline need not interrupt them.
type tunnel struct {
	stream        stream
	local, remote net.Addr

	readDeadline, writeDeadline *deadline

	// received and consumed pass the reader's buffer to and fro.
	received chan received
	consumed chan struct{}
	// outgoing and written do the same for the writer's.
	outgoing chan []byte
	written  chan error

	readMu  sync.Mutex
	rest    []byte
	readErr error

	writeMu  sync.Mutex
	writeBuf []byte
	underWay bool
	writeErr error

	closeRead sync.Once
	readEnd   chan struct{}
	closing   sync.Once
	closed    chan struct{}
	reason    error
	closeErr  error
}

type received struct {
	data []byte
	err  error
}

// newTunnel starts the goroutines under owner and takes the stream over: it is closed on failure,
// when ctx ends and with the owner.
func newTunnel(ctx context.Context, owner *tasks, s stream, local, remote net.Addr) (*tunnel, error) {
	t := &tunnel{
		stream:        s,
		local:         local,
		remote:        remote,
		readDeadline:  newDeadline(),
		writeDeadline: newDeadline(),
		received:      make(chan received),
		consumed:      make(chan struct{}, 1),
		outgoing:      make(chan []byte),
		written:       make(chan error, 1),
		readEnd:       make(chan struct{}),
		closed:        make(chan struct{}),
	}
	keep := context.AfterFunc(ctx, func() { t.end(contextError(ctx)) })
	keepToo := context.AfterFunc(owner.ctx, func() { t.Close() })
	send := func() {
		defer keep()
		defer keepToo()
		t.send()
	}
	if err := owner.start(t.receive, send); err != nil {
		keep()
		keepToo()
		s.Close()
		return nil, err
	}
	return t, nil
}

func (t *tunnel) receive() {
	buf := make([]byte, tunnelBuffer)
	for {
		n, err := t.stream.Read(buf)
		if n == 0 && err == nil {
			continue
		}
		select {
		case t.received <- received{buf[:n], err}:
		case <-t.closed:
			return
		case <-t.readEnd:
		}
		if err != nil {
			return
		}
		select {
		case <-t.consumed:
		case <-t.closed:
			return
		case <-t.readEnd:
			// Reading goes on to let the other end finish what it writes.
		}
	}
}

func (t *tunnel) send() {
	for {
		select {
		case p := <-t.outgoing:
			_, err := t.stream.Write(p)
			t.written <- err
		case <-t.closed:
			return
		}
	}
}

// Read returns os.ErrDeadlineExceeded after the read deadline, net.ErrClosed after Close, the error of
// the context that has ended, and io.EOF after CloseRead.
func (t *tunnel) Read(p []byte) (int, error) {
	t.readMu.Lock()
	defer t.readMu.Unlock()

	if err := t.readable(); err != nil || len(p) == 0 {
		return 0, err
	}
	if len(t.rest) == 0 {
		if t.readErr != nil {
			return 0, t.readErr
		}
		select {
		case r := <-t.received:
			t.rest, t.readErr = r.data, r.err
		case <-t.readDeadline.wait():
			return 0, os.ErrDeadlineExceeded
		case <-t.readEnd:
			return 0, io.EOF
		case <-t.closed:
			return 0, t.reason
		}
		if len(t.rest) == 0 {
			// Closing ends the stream as well, but is the better reason.
			if err := t.readable(); err != nil {
				return 0, err
			}
			return 0, t.readErr
		}
	}

	n := copy(p, t.rest)
	if t.rest = t.rest[n:]; len(t.rest) == 0 && t.readErr == nil {
		select {
		case t.consumed <- struct{}{}:
		default: // nobody waits for it after CloseRead
		}
	}
	return n, nil
}

// readable tells why nothing can be read, whatever has arrived.
func (t *tunnel) readable() error {
	select {
	case <-t.closed:
		return t.reason
	default:
	}
	select {
	case <-t.readEnd:
		return io.EOF
	case <-t.readDeadline.wait():
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// Write returns os.ErrDeadlineExceeded after the write deadline. What is under way then counts as
// written, like the bytes in the buffer of a TCP connection, and the next Write waits for it.
func (t *tunnel) Write(p []byte) (int, error) {
	t.writeMu.Lock()
	defer t.writeMu.Unlock()

	if err := t.writable(); err != nil {
		return 0, err
	}
	if err := t.awaitWritten(); err != nil {
		return 0, err
	}
	total := 0
	for len(p) > 0 {
		t.writeBuf = append(t.writeBuf[:0], p[:min(len(p), tunnelBuffer)]...)
		select {
		case t.outgoing <- t.writeBuf:
		case <-t.closed:
			return total, t.reason
		}
		t.underWay = true
		err := t.awaitWritten()
		if err == nil || err == os.ErrDeadlineExceeded {
			total += len(t.writeBuf)
			p = p[len(t.writeBuf):]
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// awaitWritten returns when nothing is under way, or why that takes too long.
func (t *tunnel) awaitWritten() error {
	if t.writeErr != nil || !t.underWay {
		return t.writeErr
	}
	select {
	case t.writeErr = <-t.written:
		t.underWay = false
		return t.writeErr
	case <-t.writeDeadline.wait():
		return os.ErrDeadlineExceeded
	case <-t.closed:
		return t.reason
	}
}

func (t *tunnel) writable() error {
	select {
	case <-t.closed:
		return t.reason
	case <-t.writeDeadline.wait():
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// CloseWrite tells the other end that nothing more comes, after what is under way.
func (t *tunnel) CloseWrite() error {
	t.writeMu.Lock()
	defer t.writeMu.Unlock()

	if t.underWay && t.writeErr == nil {
		select {
		case t.writeErr = <-t.written:
			t.underWay = false
		case <-t.closed:
		}
	}
	if t.writeErr != nil {
		return nil
	}
	t.writeErr = net.ErrClosed
	return t.stream.CloseWrite()
}

// CloseRead discards what still comes.
func (t *tunnel) CloseRead() error {
	t.closeRead.Do(func() { close(t.readEnd) })
	return nil
}

// Close ends both directions. Further calls return the result of the first.
func (t *tunnel) Close() error { return t.end(net.ErrClosed) }

// end closes the tunnel and has reason returned by what is or will be called.
func (t *tunnel) end(reason error) error {
	t.closing.Do(func() {
		t.reason = reason
		close(t.closed)
		t.readDeadline.set(time.Time{})
		t.writeDeadline.set(time.Time{})
		t.closeErr = t.stream.Close()
	})
	return t.closeErr
}

func (t *tunnel) LocalAddr() net.Addr  { return t.local }
func (t *tunnel) RemoteAddr() net.Addr { return t.remote }

func (t *tunnel) SetDeadline(at time.Time) error {
	t.readDeadline.set(at)
	t.writeDeadline.set(at)
	return nil
}

func (t *tunnel) SetReadDeadline(at time.Time) error {
	t.readDeadline.set(at)
	return nil
}

func (t *tunnel) SetWriteDeadline(at time.Time) error {
	t.writeDeadline.set(at)
	return nil
}

// tunnelAddr is the address of a tunnel's end, which has none in the local network.
type tunnelAddr struct {
	network, address string
}

func (a tunnelAddr) Network() string { return a.network }
func (a tunnelAddr) String() string  { return a.address }
