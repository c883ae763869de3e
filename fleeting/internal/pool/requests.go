package pool

import (
	"slices"
	"time"
)

// lot is an instance that was asked for and not seen yet, if it exists at all.
type lot struct {
	requested time.Time
	sent      time.Time
	updates   int  // Pool.updates when it was sent
	answered  bool // the group accepted it; otherwise its answer was lost
}

// Request asks for n more instances. What exceeds the maximum size on its own is dropped: it could
// never be granted.
func (p *Pool) Request(now time.Time, n int) {
	n = min(n, p.cfg.MaxSize-count(p.requested))
	if n > 0 {
		p.requested = append(p.requested, batch{n: n, requested: now})
	}
}

// count returns the number of instances in batches.
func count(batches []batch) int {
	n := 0
	for _, b := range batches {
		n += b.n
	}
	return n
}

// Increased takes the result of asking the group for n instances: the number that were accepted, and
// whether the answer was lost, so that the others may have been accepted as well. What was not
// accepted is forgotten. It returns the number that counts as accepted.
func (p *Pool) Increased(now time.Time, n, succeeded int, lost bool) int {
	succeeded = min(max(succeeded, 0), n)
	for i := range n {
		requested := p.takeRequest(now)
		if i < succeeded || lost {
			p.sent = append(p.sent, lot{requested: requested, sent: now, updates: p.updates, answered: i < succeeded})
		}
	}
	return succeeded
}

// takeRequest removes the oldest requested instance and returns when it was requested.
func (p *Pool) takeRequest(now time.Time) time.Time {
	if len(p.requested) == 0 {
		return now
	}
	first := &p.requested[0]
	requested := first.requested
	if first.n--; first.n == 0 {
		p.requested = slices.Delete(p.requested, 0, 1)
	}
	return requested
}

// seen takes a new instance for one of those that were asked for, and returns when it was requested;
// false if none was asked for.
//
// Which one it is cannot be known. Accepted ones are taken first, because they wait for longest. The
// time that is struck off is the oldest one in any case: a lost lot moves on to the time of the next,
// so that it never expires before the last instance that it may stand for has had its time to appear.
func (p *Pool) seen() (requested time.Time, asked bool) {
	if len(p.sent) == 0 {
		return time.Time{}, false
	}
	taken := max(0, slices.IndexFunc(p.sent, func(l lot) bool { return l.answered }))
	requested = p.sent[taken].requested
	for i := range taken {
		p.sent[i].sent, p.sent[i].updates = p.sent[i+1].sent, p.sent[i+1].updates
	}
	p.sent = slices.Delete(p.sent, taken, taken+1)
	return requested, true
}

// expire gives up on lots of which nothing was seen for too long, and returns how many of them had
// been accepted.
func (p *Pool) expire(now time.Time) (accepted int) {
	p.sent = slices.DeleteFunc(p.sent, func(l lot) bool {
		if !l.answered {
			return now.Sub(l.sent) >= unansweredLimit && p.updates-l.updates >= unansweredUpdates
		}
		expired := now.Sub(l.sent) >= PendingLimit
		if expired {
			accepted++
		}
		return expired
	})
	return accepted
}
