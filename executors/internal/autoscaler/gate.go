package autoscaler

import "sync"

// gate counts who uses something that is to be given up some day, when nobody does. It is safe for
// concurrent use.
type gate struct {
	mu      sync.Mutex
	changed *sync.Cond
	inside  int
	closing bool
	closed  bool
	// closings counts calls of begin, so that each await knows its own.
	closings int
}

func newGate() *gate {
	g := &gate{}
	g.changed = sync.NewCond(&g.mu)
	return g
}

// enter lets one more user in, unless the gate is closing.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	g.changed.Broadcast()
}

// begin begins to close the gate. It returns how many are inside, and what waits until the last of them
// has left; that returns false if the gate was opened again before. A gate that is closing already gives
// nil.
func (g *gate) begin() (inside int, await func() bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return g.inside, nil
	}
	g.closing = true
	g.closings++
	number := g.closings
	return g.inside, func() bool { return g.await(number) }
}

// reopen takes begin back. It comes too late, and returns false, once the gate is closed.
func (g *gate) reopen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.closing = false
	g.changed.Broadcast()
	return true
}

func (g *gate) await(number int) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.closing && g.closings == number && g.inside > 0 {
		g.changed.Wait()
	}
	if !g.closing || g.closings != number {
		return false
	}
	g.closed = true
	return true
}

// isClosing says whether nobody may enter.
func (g *gate) isClosing() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closing
}
