package connector

import (
	"sync"
	"time"
)

// deadline is a channel that is closed while a point in time lies in the past.
type deadline struct {
	mu         sync.Mutex
	expired    chan struct{}
	isExpired  bool
	generation int
	timer      *time.Timer
}

func newDeadline() *deadline {
	return &deadline{expired: make(chan struct{})}
}

// set moves the deadline, also for those who wait already; the zero time removes it.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()

	// A timer that fired but has not got the lock yet belongs to an older generation.
	d.generation++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}

	left := time.Until(t)
	if !t.IsZero() && left <= 0 {
		d.expire()
		return
	}
	if d.isExpired {
		d.expired, d.isExpired = make(chan struct{}), false
	}
	if !t.IsZero() {
		generation := d.generation
		d.timer = time.AfterFunc(left, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.generation == generation {
				d.expire()
			}
		})
	}
}

func (d *deadline) expire() {
	if !d.isExpired {
		d.isExpired = true
		close(d.expired)
	}
}

func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.expired
}
