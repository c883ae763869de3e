package docker

import (
	"maps"
	"sync"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// lives remembers what this process does with, and knows of, the instances of a group. The engine
// knows the rest. It is safe for concurrent use.
type lives struct {
	mu sync.Mutex
	// states holds Creating, Suspending, Resuming and Deleting while this process works on that, and
	// Running once an instance was seen to be up.
	states map[string]provider.State
	// keyed holds the instances that have this process's key.
	keyed map[string]bool
}

func newLives() *lives {
	return &lives{states: map[string]provider.State{}, keyed: map[string]bool{}}
}

// state returns what is known of an instance; empty is nothing.
func (l *lives) state(id string) provider.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.states[id]
}

// all returns what is known of every instance.
func (l *lives) all() map[string]provider.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.states)
}

// begin notes that work towards a state begins. It reports false if the instance is being deleted,
// or the same work is already under way.
func (l *lives) begin(id string, state provider.State) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if current := l.states[id]; current == provider.StateDeleting || current == state {
		return false
	}
	l.states[id] = state
	return true
}

// end notes the outcome of work that began as from; empty forgets the state. It reports false, and
// changes nothing, if something else has been begun since.
func (l *lives) end(id string, from, to provider.State) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.states[id] != from {
		return false
	}
	if to == "" {
		delete(l.states, id)
	} else {
		l.states[id] = to
	}
	return true
}

// forget drops what is known of instances that are gone. Work that has not ended yet drops its own.
func (l *lives) forget(present map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, state := range l.states {
		if !present[id] && (state == provider.StateRunning || state == provider.StateDeleting) {
			delete(l.states, id)
		}
	}
	for id := range l.keyed {
		if !present[id] && l.states[id] == "" {
			delete(l.keyed, id)
		}
	}
}

func (l *lives) authorized(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keyed[id]
}

func (l *lives) authorize(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keyed[id] = true
}
