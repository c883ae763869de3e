package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
)

// Connector opens a connection to an instance; connector.Dial is one.
type Connector = connector.DialFn

// connections holds one connection per instance, shared by everything that works on it. A connection
// stays open while its instance lives; its loss is the first sign that the instance is gone.
type connections struct {
	dial       Connector
	external   bool
	knownHosts connector.KnownHosts
	log        logrus.FieldLogger

	// onLost is called when a connection ended that nobody closed. It is set before the first get.
	onLost func(instance string, cause error)

	mu       sync.Mutex
	open     map[string]*connection
	watchers sync.WaitGroup
	closed   bool
}

// connection is one instance's. ready is closed when client or err is set.
type connection struct {
	ready  chan struct{}
	client connector.Client
	err    error
	// givenUp says that the attempt ended with the context of its caller, and says nothing of the
	// instance.
	givenUp bool
	// worked says that what jobs need was there when it was used.
	worked bool
}

var errConnectionsClosed = errors.New("the runner is shutting down")

func newConnections(dial Connector, external bool, log logrus.FieldLogger) *connections {
	return &connections{dial: dial, external: external, log: log, open: map[string]*connection{}}
}

// get returns the instance's connection, opening it if there is none. Concurrent calls for one instance
// share one attempt, made under the context of the first.
func (c *connections) get(ctx context.Context, info provider.ConnectInfo) (executors.Client, error) {
	for {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return nil, errConnectionsClosed
		}
		conn, ok := c.open[info.ID]
		if !ok {
			conn = &connection{ready: make(chan struct{})}
			c.open[info.ID] = conn
			c.mu.Unlock()
			c.connect(ctx, info, conn)
			return handle(conn)
		}
		c.mu.Unlock()
		select {
		case <-conn.ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if conn.givenUp && ctx.Err() == nil {
			continue
		}
		return handle(conn)
	}
}

// opened returns the instance's connection if it is open.
func (c *connections) opened(instance string) (executors.Client, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn, ok := c.open[instance]
	if !ok || conn.client == nil || c.closed {
		return nil, false
	}
	return shared{conn.client}, true
}

func handle(conn *connection) (executors.Client, error) {
	if conn.err != nil {
		return nil, conn.err
	}
	return shared{conn.client}, nil
}

func (c *connections) connect(ctx context.Context, info provider.ConnectInfo, conn *connection) {
	c.log.WithFields(logrus.Fields{
		"instance-id":          info.ID,
		"internal-address":     info.InternalAddr,
		"external-address":     info.ExternalAddr,
		"use-external-address": c.external,
		"protocol-port":        info.ProtocolPort,
	}).Info("Dialing instance")
	client, err := c.dial(ctx, info, connector.DialOptions{UseExternalAddr: c.external, KnownHosts: &c.knownHosts})

	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(conn.ready)
	if err == nil && c.closed {
		_ = client.Close()
		err = errConnectionsClosed
	}
	if err != nil {
		conn.err, conn.givenUp = err, ctx.Err() != nil
		delete(c.open, info.ID)
		return
	}
	conn.client = client
	if monitored, ok := client.(connector.Monitored); ok {
		c.watchers.Go(func() { c.watch(info.ID, conn, monitored) })
	}
}

// watch waits for the end of a connection and forgets it.
func (c *connections) watch(instance string, conn *connection, monitored connector.Monitored) {
	<-monitored.Done()
	c.mu.Lock()
	if c.open[instance] == conn {
		delete(c.open, instance)
	}
	closed := c.closed
	c.mu.Unlock()
	_ = conn.client.Close()
	c.knownHosts.Forget(instance)
	if err := monitored.Err(); !closed && !errors.Is(err, net.ErrClosed) {
		c.onLost(instance, err)
	}
}

// works notes that what jobs need of an instance was there.
func (c *connections) works(instance string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn, ok := c.open[instance]; ok {
		conn.worked = true
	}
}

// worked says whether what jobs need was there before, over the connection that is open.
func (c *connections) worked(instance string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn, ok := c.open[instance]
	return ok && conn.worked
}

// heartbeat checks that a command can be run on an instance.
func (c *connections) heartbeat(ctx context.Context, info provider.ConnectInfo) error {
	client, err := c.get(ctx, info)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	return client.Run(ctx, executors.RunOptions{Command: "exit 0"})
}

// close closes all connections and waits until nothing watches them.
func (c *connections) close() {
	c.mu.Lock()
	c.closed = true
	for _, conn := range c.open {
		select {
		case <-conn.ready:
			if conn.client != nil {
				_ = conn.client.Close()
			}
		default:
			// Still being opened: connect closes it.
		}
	}
	c.mu.Unlock()
	c.watchers.Wait()
}

// shared is a job's handle on an instance's connection. Closing it leaves the connection open.
type shared struct{ client connector.Client }

func (s shared) Dial(network, addr string) (net.Conn, error) { return s.client.Dial(network, addr) }

func (s shared) DialRun(ctx context.Context, command string) (net.Conn, error) {
	return s.client.DialRun(ctx, command)
}

func (s shared) Run(ctx context.Context, o executors.RunOptions) error {
	return s.client.Run(ctx, connector.RunOptions(o))
}

func (s shared) Close() error { return nil }
