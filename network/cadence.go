package network

import "time"

const (
	// defaultUpdateInterval is the least time between two pieces of a log, unless the server sets another.
	defaultUpdateInterval = 3 * time.Second

	// coalesce is how long a log is collected before the first piece is sent.
	coalesce = 75 * time.Millisecond

	// quickTouch is after how much silence a job is reported as running while the server asks for no
	// rest. GitLab's own runner waits for 30 s, so that a user who cancels a job that prints nothing
	// waits for as long. We want cancellations heard within 10 s.
	quickTouch = 5 * time.Second

	// A server that set an interval above quickTouch gets its rest.
	restfulTouch     = 30 * time.Second
	maxRestfulTouch  = 30 * time.Minute
	dynamicTouchRate = 4
)

// cadence knows when to send what.
type cadence struct {
	dynamic  bool
	interval time.Duration

	// unsentSince is when output came that was not sent yet; zero if there is none.
	unsentSince time.Time
	// lastPatch is when a piece was last sent, in vain or not, lastTouch the same for a report.
	lastPatch, lastTouch time.Time
	// lastHeard is when the server last heard of the job.
	lastHeard time.Time
}

func newCadence(dynamic bool) cadence {
	return cadence{dynamic: dynamic, interval: defaultUpdateInterval}
}

// asked takes over the interval that the server wants; 0 changes nothing.
func (c *cadence) asked(interval time.Duration) {
	if interval > 0 {
		c.interval = min(interval, maxUpdateInterval)
	}
}

func (c *cadence) touched(now time.Time)     { c.lastTouch, c.lastHeard = now, now }
func (c *cadence) touchFailed(now time.Time) { c.lastTouch = now }

func (c *cadence) silence() time.Duration {
	switch {
	case c.interval <= quickTouch:
		return quickTouch
	case c.dynamic:
		return min(max(dynamicTouchRate*c.interval, restfulTouch), maxRestfulTouch)
	default:
		return restfulTouch
	}
}

// touchDue is when to report the job as running. Before that was done once with success there is
// nothing else to do.
func (c *cadence) touchDue(committed bool) time.Time {
	again := c.lastTouch.Add(c.interval)
	if !committed {
		return again
	}
	return latest(c.lastHeard.Add(c.silence()), again)
}

// patchDue is when to send the next piece; there must be one.
func (c *cadence) patchDue() time.Time {
	due := c.unsentSince.Add(coalesce)
	if c.lastPatch.IsZero() {
		return due
	}
	return latest(due, c.lastPatch.Add(c.interval))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
