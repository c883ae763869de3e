package session

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"gitlab.com/gitlab-org/gitlab-runner/network"
)

// offerTimeout is how long a user waits for the job to have a container.
const offerTimeout = time.Minute

// Session is where the user of one job's terminal is let in. It is safe for concurrent use.
type Session struct {
	server *Server
	id     string
	secret string

	ctx   context.Context
	close context.CancelCauseFunc
	// offered is closed when there is a container.
	offered chan struct{}
	work    sync.WaitGroup

	mu   sync.Mutex
	open func(ctx context.Context) (io.ReadWriteCloser, error)
	// gone is closed when the user who is connected goes; nil while nobody is.
	gone chan struct{}
}

var (
	errClosed   = errors.New("the job is over")
	errOccupied = errors.New("somebody is connected already")
)

func newSession(s *Server) *Session {
	one := &Session{server: s, id: secret(), secret: secret(), offered: make(chan struct{})}
	one.ctx, one.close = context.WithCancelCause(context.Background())
	return one
}

// Info is what GitLab is told with the job request.
func (s *Session) Info() *network.Session {
	return &network.Session{URL: s.server.base + s.id, Certificate: s.server.certificate, Authorization: s.secret}
}

// Offer says how a shell is opened, from now on. It is called once.
func (s *Session) Offer(open func(ctx context.Context) (io.ReadWriteCloser, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = open
	close(s.offered)
}

// Disconnected is closed when nobody is connected.
func (s *Session) Disconnected() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != nil {
		return s.gone
	}
	nobody := make(chan struct{})
	close(nobody)
	return nobody
}

// End tells the user who is connected why the session ends, and closes it.
func (s *Session) End(cause error) {
	s.server.forget(s.id)
	s.mu.Lock()
	s.close(cause)
	s.mu.Unlock()
	s.work.Wait()
}

// Close ends the session with its job. It may be called more than once.
func (s *Session) Close() { s.End(errClosed) }

// allowed says whether a request carries the session's secret.
func (s *Session) allowed(r *http.Request) bool {
	return subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(s.secret)) == 1
}

// enter makes the caller the one who is connected.
func (s *Session) enter() (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, context.Cause(s.ctx)
	}
	if s.gone != nil {
		return nil, errOccupied
	}
	gone := make(chan struct{})
	s.gone = gone
	s.work.Add(1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gone = nil
		close(gone)
		s.work.Done()
	}, nil
}

// exec connects a user to a shell until one of them ends.
func (s *Session) exec(w http.ResponseWriter, r *http.Request) {
	if !websocket.IsWebSocketUpgrade(r) {
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
		return
	}
	leave, err := s.enter()
	if err != nil {
		http.Error(w, err.Error(), http.StatusLocked)
		return
	}
	defer leave()
	waiting := time.NewTimer(offerTimeout)
	defer waiting.Stop()
	select {
	case <-s.offered:
	case <-waiting.C:
		http.Error(w, "the job has no container yet", http.StatusServiceUnavailable)
		return
	case <-s.ctx.Done():
		http.Error(w, context.Cause(s.ctx).Error(), http.StatusServiceUnavailable)
		return
	case <-r.Context().Done():
		return
	}
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	shell, err := open(s.ctx)
	if err != nil {
		s.server.log.WithError(err).Warning("The web terminal of a job cannot be opened")
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer shell.Close()
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.server.log.WithError(err).Warning("The connection of a web terminal was refused")
		return
	}
	(&bridge{conn: conn, shell: shell}).run(s.ctx)
}
