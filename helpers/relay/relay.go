// Package relay carries TCP connections over one two-way stream, such as the standard input and output of
// a command in a container: a program beside the container's end sees a server on loopback, the server is
// at the other end of the stream and listens nowhere. Anything may import it.
package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// Serve answers what arrives at the other end of a stream, until stop is called or the stream ends. stop
// closes the stream and returns when nothing is under way any more.
func Serve(stream io.ReadWriteCloser, handler http.Handler) (stop func(), err error) {
	session, err := yamux.Server(stream, settings())
	if err != nil {
		return nil, fmt.Errorf("beginning a relay: %w", err)
	}
	var working sync.WaitGroup
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				working.Add(1)
			case http.StateClosed, http.StateHijacked:
				working.Done()
			}
		},
	}
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		_ = server.Serve(session)
	}()
	return func() {
		// The session's end is that of its connections, and of the listener.
		_ = session.Close()
		_ = server.Close()
		<-serving
		working.Wait()
	}, nil
}

// settings keep quiet: what goes wrong shows at the connections. The stream's end is told by the stream.
func settings() *yamux.Config {
	config := yamux.DefaultConfig()
	config.LogOutput = io.Discard
	config.EnableKeepAlive = false
	return config
}

// Relay is the other end.
type Relay struct {
	session  *yamux.Session
	listener net.Listener
	serving  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	done  bool
}

// Listen passes on what connects to address, which should be on loopback. Close the relay.
func Listen(ctx context.Context, address string, stream io.ReadWriteCloser) (*Relay, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("beginning a relay: %w", err)
	}
	session, err := yamux.Client(stream, settings())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("beginning a relay: %w", err), listener.Close())
	}
	r := &Relay{session: session, listener: listener, conns: map[net.Conn]bool{}}
	r.serving.Go(r.accept)
	return r, nil
}

// Lost is closed when the stream has ended.
func (r *Relay) Lost() <-chan struct{} { return r.session.CloseChan() }

// Address is where the relay listens.
func (r *Relay) Address() string { return r.listener.Addr().String() }

// Close ends the relay with all connections, and the stream.
func (r *Relay) Close() error {
	err := errors.Join(r.listener.Close(), r.session.Close())
	r.mu.Lock()
	r.done = true
	for conn := range r.conns {
		_ = conn.Close()
	}
	r.mu.Unlock()
	r.serving.Wait()
	return err
}

func (r *Relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.serving.Go(func() { r.carry(conn) })
	}
}

func (r *Relay) carry(conn net.Conn) {
	defer conn.Close()
	if !r.keep(conn) {
		return
	}
	defer r.drop(conn)
	stream, err := r.session.OpenStream()
	if err != nil {
		return
	}
	defer stream.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(stream, conn)
		// It closes one direction only.
		_ = stream.Close()
	}()
	_, _ = io.Copy(conn, stream)
	_ = conn.Close()
	<-sent
}

func (r *Relay) keep(conn net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.done {
		r.conns[conn] = true
	}
	return !r.done
}

func (r *Relay) drop(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, conn)
}
