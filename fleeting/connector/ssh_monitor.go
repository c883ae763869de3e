package connector

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// defaultKeepalive and minReplyTime together keep the default loss detection below 5 seconds.
	defaultKeepalive = 1500 * time.Millisecond
	minReplyTime     = 2500 * time.Millisecond
	maxReplyTime     = 15 * time.Second

	// maxReplyTimes is how many reply times pass before bytes that are no reply count no longer.
	maxReplyTimes = 10
)

// watchedConn counts what arrives, because any byte is a sign of life, and remembers that the
// connection failed before anybody else can learn of it.
type watchedConn struct {
	net.Conn
	acknowledge func()
	arrived     atomic.Int64
	failed      atomic.Bool
}

func watch(conn net.Conn) *watchedConn {
	return &watchedConn{Conn: conn, acknowledge: quickAck(conn)}
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.arrived.Add(int64(n))
	if n < len(p) {
		c.acknowledge()
	}
	if err != nil {
		c.failed.Store(true)
	}
	return n, err
}

// monitor finds out that an SSH connection is lost: by its end, or because the other side is silent.
type monitor struct {
	instance string
	network  *watchedConn
	conn     ssh.Conn
	// replyTime is how long the other side may be silent when it is asked for a reply.
	replyTime time.Duration

	tasks *tasks
	done  chan struct{}

	mu     sync.Mutex
	reason error
}

func newMonitor(instance, address string, network *watchedConn) *monitor {
	if instance == "" {
		instance = address
	}
	return &monitor{instance: instance, network: network, tasks: newTasks(), done: make(chan struct{})}
}

// start watches conn. An interval of 0 is the default, a negative one sends no keepalives.
func (m *monitor) start(conn ssh.Conn, interval time.Duration) {
	if interval == 0 {
		interval = defaultKeepalive
	}
	m.conn = conn
	m.replyTime = min(max(interval, minReplyTime), maxReplyTime)

	watch := []func(){m.awaitEnd}
	if interval > 0 {
		watch = append(watch, func() { m.keepAlive(interval) })
	}
	_ = m.tasks.start(watch...) // a fresh group starts everything
}

func (m *monitor) awaitEnd() {
	err := m.conn.Wait()
	// "ssh tunnel" is what users search for.
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("closed by the instance: ssh tunnel: EOF")
	} else {
		err = fmt.Errorf("ssh tunnel: %w", err)
	}
	m.blame(remoteError{err})
	close(m.done)
}

func (m *monitor) keepAlive(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if m.lost() != nil {
				return
			}
		case <-m.done:
			return
		}
	}
}

// blame sets the reason for the end of the connection, unless there is one.
func (m *monitor) blame(cause error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reason == nil {
		m.reason = fmt.Errorf("%w: instance %q: %w", ErrConnectionLost, m.instance, cause)
	}
}

// lost asks the other side for a sign of life. It returns why the connection is lost, or nil.
func (m *monitor) lost() error {
	if m.network.failed.Load() {
		<-m.done
		return m.err()
	}

	replied := make(chan error, 1)
	go func() {
		// A refusal of the request is a reply as well.
		_, _, err := m.conn.SendRequest("keepalive@openssh.com", true, nil)
		replied <- err
	}()

	if m.answered(replied) {
		return nil
	}
	m.conn.Close()
	<-m.done
	return m.err()
}

// answered waits for a reply as long as anything arrives, since a reply may queue behind much data.
func (m *monitor) answered(replied <-chan error) bool {
	before := m.network.arrived.Load()
	for range maxReplyTimes {
		select {
		case err := <-replied:
			return err == nil
		case <-time.After(m.replyTime):
		}
		now := m.network.arrived.Load()
		if now == before {
			break
		}
		before = now
	}
	m.blame(fmt.Errorf("no reply to a keepalive within %s", m.replyTime))
	return false
}

func (m *monitor) err() error {
	select {
	case <-m.done:
	default:
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reason
}

// close ends the connection on purpose and waits for all goroutines.
func (m *monitor) close() error {
	if m.tasks.close() {
		m.mu.Lock()
		if m.reason == nil {
			m.reason = fmt.Errorf("connection to instance %q: %w", m.instance, net.ErrClosed)
		}
		m.mu.Unlock()
		m.conn.Close()
	}
	m.tasks.wait()
	return nil
}
