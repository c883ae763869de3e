package coordinator

import (
	"context"
	"fmt"
	"io"
	"time"
)

// EventKind says what an Event tells.
type EventKind string

// The kinds of events.
const (
	EventState            EventKind = "state"      // a job entered State
	EventHandedOut        EventKind = "handed-out" // a runner was given a job and has to confirm it
	EventRequeued         EventKind = "requeued"   // a job was not confirmed in time
	EventTrace            EventKind = "trace"      // Data was added to a job's log
	EventArtifact         EventKind = "artifact"   // a job uploaded Artifact
	EventPipelineFinished EventKind = "pipeline-finished"
)

// Event is something that happened. Fields that its kind does not speak of are zero.
type Event struct {
	Time     time.Time
	Kind     EventKind
	Job      *Job
	Pipeline *Pipeline
	State    State
	Data     []byte // not to be changed
	Artifact *Artifact
}

// Subscription is a listener's place in the stream of events. Nothing is lost and nobody is slowed down: events wait in
// memory until they are taken.
type Subscription struct {
	c *Coordinator

	// Guarded by c.mu.
	waiting []Event
	arrived chan struct{} // closed and replaced when something arrives
	ended   bool
}

// Subscribe starts listening. Every event from now on is delivered, those before are not. Call Close when done.
func (c *Coordinator) Subscribe() *Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &Subscription{c: c, arrived: make(chan struct{}), ended: c.closed}
	if !s.ended {
		c.subscribers[s] = struct{}{}
	}
	return s
}

// Next gives the next event, waiting for it. After Close of the subscription or the coordinator it gives what is left
// and then io.EOF; when ctx ends first, it fails with the cause.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		s.c.mu.Lock()
		if len(s.waiting) > 0 {
			event := s.waiting[0]
			s.waiting = s.waiting[1:]
			s.c.mu.Unlock()
			return event, nil
		}
		ended, arrived := s.ended, s.arrived
		s.c.mu.Unlock()
		if ended {
			return Event{}, io.EOF
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("wait for an event: %w", context.Cause(ctx))
		}
	}
}

// Close stops listening. Closing twice is allowed.
func (s *Subscription) Close() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.end()
}

// end needs c.mu.
func (s *Subscription) end() {
	if s.ended {
		return
	}
	s.ended = true
	delete(s.c.subscribers, s)
	close(s.arrived)
	s.arrived = make(chan struct{})
}

// publish needs c.mu.
func (c *Coordinator) publish(event Event) {
	event.Time = time.Now()
	for s := range c.subscribers {
		s.waiting = append(s.waiting, event)
		close(s.arrived)
		s.arrived = make(chan struct{})
	}
}
