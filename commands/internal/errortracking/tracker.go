// Package errortracking sends the errors of the process log to Sentry. Only package commands imports it.
//
// What it guarantees:
//   - Logging does not wait: events go through a bounded queue, and what finds no room, or no Sentry, is dropped and
//     counted. Only a fatal entry, after which the process ends, waits, for two seconds at most.
//   - What leaves is the entry as the log shows it, without its secrets, the version of this program and the system
//     id. No stack, environment, host name or user goes along.
//   - Its own entries are warnings at most, which are not sent: it does not report itself.
package errortracking

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/getsentry/sentry-go"
	"github.com/sirupsen/logrus"
)

// flushLimit is how long the end of the process, or of a DSN, is held up for what is not sent yet.
const flushLimit = 2 * time.Second

// Options say what a Tracker needs.
type Options struct {
	// Release is the version of this program.
	Release string
	// SystemID stands in the place of the name of this machine. It must not be empty.
	SystemID string
	// Hide takes the secrets out of a text. It is called before the entry that has the text is logged.
	Hide func(text string) string
	// Log is told when events get lost.
	Log logrus.FieldLogger
	// Transport carries the events; nil is one that heeds the proxies of the environment.
	Transport *http.Transport
}

// Tracker is the hook of a log. It sends nothing before it has a DSN. It is safe for concurrent use.
type Tracker struct {
	options Options

	mu  sync.RWMutex
	dsn string
	// current is nil while there is nowhere to send to.
	current *sender
	// senders are at work, those of former DSNs included.
	senders sync.WaitGroup
}

var _ logrus.Hook = (*Tracker)(nil)

// New returns a tracker without a DSN. It is to be closed.
func New(o Options) *Tracker {
	if o.Transport == nil {
		o.Transport = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	}
	return &Tracker{options: o}
}

// Use sends what is logged from now on to another DSN, nowhere if it is empty or, with an error, invalid. What is
// queued still goes to the former one. The DSN in force already changes nothing.
func (t *Tracker) Use(dsn string) error {
	dsn = strings.TrimSpace(dsn)
	t.mu.Lock()
	defer t.mu.Unlock()
	if dsn == t.dsn {
		return nil
	}
	if t.current != nil {
		t.current.end()
	}
	t.dsn, t.current = "", nil
	if dsn == "" {
		return nil
	}
	s, err := newSender(dsn, t.options)
	if err != nil {
		return err
	}
	t.dsn, t.current = dsn, s
	t.senders.Go(s.run)
	return nil
}

// Close sends what is queued, within two seconds, and ends the sending.
func (t *Tracker) Close() {
	t.mu.Lock()
	if t.current != nil {
		t.current.end()
	}
	t.dsn, t.current = "", nil
	t.mu.Unlock()
	t.senders.Wait()
}

// Levels implements [logrus.Hook].
func (*Tracker) Levels() []logrus.Level {
	return []logrus.Level{logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel}
}

// Fire implements [logrus.Hook]. It never fails.
func (t *Tracker) Fire(entry *logrus.Entry) error {
	if entry.Level == logrus.ErrorLevel {
		t.offer(entry, nil)
		return nil
	}
	done := make(chan struct{})
	if !t.offer(entry, done) {
		return nil
	}
	limit := time.NewTimer(flushLimit)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	}
	return nil
}

// Fatal tells of the error that the process is about to end with. Close sends it.
func (t *Tracker) Fatal(err error) {
	t.offer(&logrus.Entry{Time: time.Now(), Level: logrus.FatalLevel, Message: err.Error()}, make(chan struct{}))
}

// offer queues an entry, and says whether there is somebody who will close done, which may be nil.
func (t *Tracker) offer(entry *logrus.Entry, done chan<- struct{}) bool {
	if !t.sends() {
		return false
	}
	event := t.event(entry)
	// Held until it is queued, so that nothing is queued where nobody reads any more.
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.current == nil {
		return false
	}
	t.current.offer(parcel{event: event, done: done})
	return true
}

func (t *Tracker) sends() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.current != nil
}

// What Sentry cuts off is not sent, in bytes.
const (
	longestMessage = 8192
	longestField   = 4096
	longestTag     = 200
)

// tags are the fields that events can be searched for by.
var tags = [...]string{"runner", "runner_name", "job", "project"}

// event is what is told of an entry.
func (t *Tracker) event(entry *logrus.Entry) *sentry.Event {
	event := sentry.NewEvent()
	event.Timestamp = entry.Time
	event.Level = sentry.LevelError
	if entry.Level != logrus.ErrorLevel {
		event.Level = sentry.LevelFatal
	}
	event.Message = t.text(entry.Message, longestMessage)
	fields := sentry.Context{}
	for name, value := range entry.Data {
		fields[t.text(name, longestTag)] = t.text(fmt.Sprint(value), longestField)
	}
	for _, name := range tags {
		if value, ok := entry.Data[name]; ok {
			// A tag is one line.
			event.Tags[name] = strings.Join(strings.Fields(t.text(fmt.Sprint(value), longestTag)), " ")
			delete(fields, name)
		}
	}
	if len(fields) > 0 {
		event.Contexts["fields"] = fields
	}
	return event
}

// text takes out secrets before it cuts: of one that is cut through, the rest would not be known.
func (t *Tracker) text(s string, limit int) string {
	s = t.options.Hide(s)
	if len(s) > limit {
		s = s[:limit]
	}
	return strings.ToValidUTF8(s, "")
}
