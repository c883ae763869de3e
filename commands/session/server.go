// Package session is the server behind GitLab's web terminal: it lets a user, whom GitLab sends, into the
// container of a job that runs.
//
// It guarantees that nobody gets in without the secret of the very job, which is made for each job anew; that one
// connection at a time is let in; that what a user sends and gets is bounded; and that no connection outlives its
// job.
//
// The run command makes the server, the manager asks it for a session of each job.
package session

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Options say where a Server listens.
type Options struct {
	// ListenAddress is a host and a port. AdvertiseAddress is what GitLab is told, if that is another one.
	ListenAddress, AdvertiseAddress string
	Log                             logrus.FieldLogger
}

// Server listens for users of the sessions that there are. It is safe for concurrent use.
type Server struct {
	log         logrus.FieldLogger
	base        string
	certificate string
	http        *http.Server
	// done is closed when the server has ended.
	done chan struct{}

	mu       sync.Mutex
	sessions map[string]*Session
}

const (
	headerTimeout = 10 * time.Second
	closeTimeout  = 5 * time.Second
	// secretSize is the size of ids and secrets, in bytes.
	secretSize = 32
)

// Listen starts a server. Close it. An address that cannot be used is an error. A server that fails later says so
// in the log and opens no further sessions: jobs are worth more than terminals.
func Listen(o Options) (*Server, error) { return listen(o, net.Listen) }

func listen(o Options, announce func(network, address string) (net.Listener, error)) (*Server, error) {
	public := o.AdvertiseAddress
	if public == "" {
		public = o.ListenAddress
	}
	if strings.Contains(public, "://") {
		return nil, fmt.Errorf("session_server advertise_address: url not valid, scheme defined: %q; give a host and a port", public)
	}
	host, _, err := net.SplitHostPort(public)
	if err != nil {
		// A public address may leave the port to HTTPS.
		host = public
	}
	certificate, text, err := selfSigned(host, time.Now())
	if err != nil {
		return nil, fmt.Errorf("session_server: %w", err)
	}
	socket, err := announce("tcp", o.ListenAddress)
	if err != nil {
		return nil, fmt.Errorf("session_server listen_address: %w", err)
	}
	if o.AdvertiseAddress == "" {
		// The port may have been chosen just now.
		public = socket.Addr().String()
		if _, port, err := net.SplitHostPort(public); err == nil && host != "" {
			public = net.JoinHostPort(host, port)
		}
	}
	s := &Server{
		log: o.Log, base: "https://" + public + "/session/", certificate: text,
		done: make(chan struct{}), sessions: map[string]*Session{},
	}
	s.http = &http.Server{
		Handler: s.handler(), ReadHeaderTimeout: headerTimeout,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
	}
	go func() {
		defer close(s.done)
		if err := s.http.ServeTLS(socket, "", ""); !errors.Is(err, http.ErrServerClosed) {
			s.log.WithError(err).WithField("address", socket.Addr().String()).
				Error("Session server terminated: there are no web terminals until the runner is started again")
		}
	}()
	s.log.WithField("address", socket.Addr().String()).Info("Session server listening")
	return s, nil
}

// Close ends the server and every connection.
func (s *Server) Close() {
	s.mu.Lock()
	open := make([]*Session, 0, len(s.sessions))
	for _, one := range s.sessions {
		open = append(open, one)
	}
	s.mu.Unlock()
	for _, one := range open {
		one.Close()
	}
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
	<-s.done
}

// Open makes a session for a job that is about to be asked for. Close it. It is nil once the server has ended.
func (s *Server) Open() *Session {
	select {
	case <-s.done:
		return nil
	default:
	}
	one := newSession(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[one.id] = one
	return one
}

func (s *Server) find(id string) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

func (s *Server) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, id)
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/session/{id}/exec", func(w http.ResponseWriter, r *http.Request) {
		one := s.find(r.PathValue("id"))
		switch {
		case one == nil:
			http.NotFound(w, r)
		case !one.allowed(r):
			http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
		default:
			one.exec(w, r)
		}
	})
	return mux
}

// secret is a text that nobody guesses.
func secret() string {
	random := make([]byte, secretSize)
	_, _ = rand.Read(random) // never fails
	return hex.EncodeToString(random)
}
