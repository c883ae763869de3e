package errortracking

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/getsentry/sentry-go"
	"github.com/sirupsen/logrus"
)

const (
	// queueLength is how many events wait at most.
	queueLength = 100
	// requestTimeout bounds the sending of one.
	requestTimeout = 10 * time.Second
)

// The outcomes of events that Sentry has not answered.
var (
	errHeldBack = errors.New("it has asked for a pause")
	errLate     = fmt.Errorf("it was not done within %s of the end", flushLimit)
)

// sender sends events to one DSN, one after the other.
type sender struct {
	client *sentry.Client
	http   *http.Client
	log    logrus.FieldLogger
	queue  chan parcel
	// ending is closed when nothing is queued any more.
	ending chan struct{}
	// requests ends those under way.
	requests context.Context
	cancel   context.CancelCauseFunc
	// dropped counts events since Sentry was last reached without loss.
	dropped atomic.Int64

	// These belong to run. outcome is that of the latest event; losing says that a loss was told of.
	outcome error
	losing  bool
}

// parcel is an event on its way. done, which may be nil, is closed when it was sent or dropped.
type parcel struct {
	event *sentry.Event
	done  chan<- struct{}
}

func (p parcel) close() {
	if p.done != nil {
		close(p.done)
	}
}

// newSender returns one that is to be run, and to be ended. Errors do not show the DSN.
func newSender(dsn string, o Options) (*sender, error) {
	if _, err := url.Parse(dsn); err != nil {
		var bad *url.Error
		if errors.As(err, &bad) {
			err = bad.Err
		}
		return nil, fmt.Errorf("the DSN is no URL: %w", err)
	}
	s := &sender{log: o.Log, queue: make(chan parcel, queueLength), ending: make(chan struct{})}
	s.requests, s.cancel = context.WithCancelCause(context.Background())
	s.http = &http.Client{
		Transport: observed{s: s, inner: o.Transport},
		Timeout:   requestTimeout,
		// The key is for nobody else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn:        dsn,
		Release:    o.Release,
		ServerName: o.SystemID,
		Transport:  &transport{HTTPSyncTransport: sentry.NewHTTPSyncTransport(), requests: s.requests},
		HTTPClient: s.http,
		// They would add what they find on this machine and in this program.
		Integrations: func([]sentry.Integration) []sentry.Integration { return nil },
		// What is dropped is told in the log.
		DisableClientReports: true,
	})
	if err != nil {
		s.cancel(nil)
		var bad *sentry.DsnParseError
		if errors.As(err, &bad) {
			err = errors.New(bad.Message)
		}
		return nil, fmt.Errorf("the DSN is invalid: %w", err)
	}
	s.client = client
	return s, nil
}

// offer queues an event or drops it, and does not wait. One that is waited for takes the place of another.
func (s *sender) offer(p parcel) {
	for {
		select {
		case s.queue <- p:
			return
		default:
		}
		if p.done == nil {
			s.dropped.Add(1)
			return
		}
		select {
		case oldest := <-s.queue:
			s.dropped.Add(1)
			oldest.close()
		default:
		}
	}
}

// end makes run return within flushLimit. Nothing may be offered afterwards.
func (s *sender) end() {
	close(s.ending)
	time.AfterFunc(flushLimit, func() { s.cancel(errLate) })
}

// run sends what is queued until the end.
func (s *sender) run() {
	defer s.close()
	for {
		select {
		case p := <-s.queue:
			s.send(p)
		case <-s.ending:
			for {
				select {
				case p := <-s.queue:
					s.send(p)
				default:
					return
				}
			}
		}
	}
}

func (s *sender) close() {
	s.cancel(nil)
	s.client.Close()
	s.http.CloseIdleConnections()
	if dropped := s.dropped.Load(); dropped > 0 {
		s.log.WithField("dropped", dropped).Warning("Sentry did not get all errors")
	}
}

func (s *sender) send(p parcel) {
	s.outcome = errHeldBack
	if err := context.Cause(s.requests); err != nil {
		s.outcome = err
	} else {
		s.client.CaptureEvent(p.event, nil, nil)
	}
	p.close()
	if s.outcome != nil {
		s.dropped.Add(1)
	}
	s.tell()
}

// tell logs the beginning and the end of a time in which events get lost.
func (s *sender) tell() {
	switch {
	case s.losing && s.outcome == nil && len(s.queue) == 0:
		s.losing = false
		s.log.WithField("dropped", s.dropped.Swap(0)).Info("Sentry takes errors again")
	case !s.losing && s.dropped.Load() > 0:
		s.losing = true
		log := s.log
		if s.outcome != nil {
			log = log.WithError(s.outcome)
		}
		log.Warning("Sentry does not take errors, or not as fast as they are logged: they are dropped and counted")
	}
}

// transport is the library's that waits for Sentry's answer, with an end.
type transport struct {
	*sentry.HTTPSyncTransport
	requests context.Context
}

// SendEvent implements [sentry.Transport].
func (t *transport) SendEvent(event *sentry.Event) { t.SendEventWithContext(t.requests, event) }

// observed tells a sender how its requests end, which the library keeps to itself.
type observed struct {
	s     *sender
	inner *http.Transport
}

// RoundTrip implements [http.RoundTripper].
func (o observed) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := o.inner.RoundTrip(request)
	switch {
	case err != nil:
		o.s.outcome = err
	case answer.StatusCode/100 != 2:
		o.s.outcome = fmt.Errorf("it answers %s", answer.Status)
	default:
		o.s.outcome = nil
	}
	return answer, err
}

// CloseIdleConnections is what [http.Client.CloseIdleConnections] calls.
func (o observed) CloseIdleConnections() { o.inner.CloseIdleConnections() }
