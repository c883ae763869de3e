// Package sentryserver is a stand-in for Sentry: it takes envelopes with events over HTTP, at the address and with the
// key of its DSN, and keeps the events. Other requests are refused, and told of by Violations.
//
// Any test of this module may import it; product code may not.
package sentryserver

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// project is the only one there is.
const project = "42"

// Event is what was sent of one error, as far as tests look at it.
type Event struct {
	ID         string                    `json:"event_id"`
	Level      string                    `json:"level"`
	Message    string                    `json:"message"`
	Release    string                    `json:"release"`
	ServerName string                    `json:"server_name"`
	Tags       map[string]string         `json:"tags"`
	Contexts   map[string]map[string]any `json:"contexts"`
	// Names are those of all members of the event.
	Names []string `json:"-"`
	// Text is the whole event as it came.
	Text string `json:"-"`
}

// Server is one at work. It is safe for concurrent use.
type Server struct {
	key      string
	listener net.Listener
	server   *http.Server
	served   chan error

	mu         sync.Mutex
	events     []Event
	changed    chan struct{}
	violations []string
	refusal    int
}

// Start returns a server on a port of its own.
func Start() (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("starting a stand-in for Sentry: %w", err)
	}
	s := &Server{key: strings.ToLower(rand.Text()), listener: listener, served: make(chan error, 1), changed: make(chan struct{})}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { s.served <- s.server.Serve(listener) }()
	return s, nil
}

// Close ends the server and the connections to it.
func (s *Server) Close() error {
	err := s.server.Close()
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// DSN is where to send to.
func (s *Server) DSN() string {
	return fmt.Sprintf("http://%s@%s/%s", s.key, s.listener.Addr(), project)
}

// Refuse answers every event from now on with a status; 0 takes them again.
func (s *Server) Refuse(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = status
}

// Events are those taken so far.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Await returns the first event that is accepted.
func (s *Server) Await(ctx context.Context, accept func(Event) bool) (Event, error) {
	for {
		s.mu.Lock()
		events, changed := slices.Clone(s.events), s.changed
		s.mu.Unlock()
		if i := slices.IndexFunc(events, accept); i >= 0 {
			return events[i], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("waiting for an event, %d came: %w", len(events), context.Cause(ctx))
		}
	}
}

// Violations are requests that Sentry would not have understood.
func (s *Server) Violations() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	event, err := s.read(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		s.violations = append(s.violations, err.Error())
		http.Error(w, err.Error(), http.StatusBadRequest)
	case s.refusal != 0:
		w.WriteHeader(s.refusal)
	default:
		s.events = append(s.events, event)
		close(s.changed)
		s.changed = make(chan struct{})
		fmt.Fprintf(w, `{"id":%q}`, event.ID)
	}
}

// longestEnvelope is what Sentry takes, in bytes.
const longestEnvelope = 1 << 20

func (s *Server) read(r *http.Request) (Event, error) {
	if want := "/api/" + project + "/envelope/"; r.Method != http.MethodPost || r.URL.Path != want {
		return Event{}, fmt.Errorf("%s %s instead of POST %s", r.Method, r.URL.Path, want)
	}
	if got := r.Header.Get("Content-Type"); got != "application/x-sentry-envelope" {
		return Event{}, fmt.Errorf("the content has the type %q", got)
	}
	scheme, parameters, _ := strings.Cut(r.Header.Get("X-Sentry-Auth"), " ")
	given := strings.Split(strings.ReplaceAll(parameters, " ", ""), ",")
	if scheme != "Sentry" || !slices.Contains(given, "sentry_key="+s.key) || !slices.Contains(given, "sentry_version=7") {
		return Event{}, errors.New("the key or the version is missing or another")
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, longestEnvelope))
	if err != nil {
		return Event{}, fmt.Errorf("reading the envelope: %w", err)
	}
	return open(body)
}

// open reads an envelope: lines of JSON, of which the first is about all, the second about the item in the third.
func open(envelope []byte) (Event, error) {
	lines := bytes.SplitN(envelope, []byte("\n"), 4)
	if len(lines) < 3 || len(lines) == 4 && len(bytes.TrimSpace(lines[3])) > 0 {
		return Event{}, fmt.Errorf("the envelope is not one with one item: %q", envelope)
	}
	var header struct {
		ID string `json:"event_id"`
	}
	var item struct {
		Type   string `json:"type"`
		Length int    `json:"length"`
	}
	event := Event{Text: string(lines[2])}
	var members map[string]json.RawMessage
	for i, into := range []any{&header, &item, &event} {
		if err := json.Unmarshal(lines[i], into); err != nil {
			return Event{}, fmt.Errorf("line %d of the envelope: %w", i+1, err)
		}
	}
	if err := json.Unmarshal(lines[2], &members); err != nil {
		return Event{}, fmt.Errorf("the event: %w", err)
	}
	for name := range members {
		event.Names = append(event.Names, name)
	}
	slices.Sort(event.Names)
	if item.Type != "event" || item.Length != len(lines[2]) || header.ID == "" || header.ID != event.ID {
		return Event{}, fmt.Errorf("the envelope does not fit its content: %q", envelope)
	}
	return event, nil
}
