package taskscaler

import (
	"context"
	"sync"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// acquisition is a task's slot on an instance.
type acquisition struct {
	key  string
	slot int
	on   *member

	mu sync.Mutex
	// ended is why the acquisition cannot be used: it is suspended or lost; nil if it can be used.
	ended error
	// contexts are the ones to be cancelled when that happens, by number.
	contexts map[int]context.CancelCauseFunc
	next     int
}

var _ Acquisition = (*acquisition)(nil)

func newAcquisition(key string, slot int, on *member) *acquisition {
	return &acquisition{key: key, slot: slot, on: on, contexts: map[int]context.CancelCauseFunc{}}
}

// stop ends the use of the acquisition and its contexts.
func (a *acquisition) stop(cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = cause
	for _, cancel := range a.contexts {
		cancel(cause)
	}
	clear(a.contexts)
}

// renew makes the acquisition usable after a suspension.
func (a *acquisition) renew() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = nil
}

func (a *acquisition) Key() string { return a.key }

func (a *acquisition) Slot() int { return a.slot }

func (a *acquisition) InstanceID() string { return a.on.id() }

func (a *acquisition) InstanceConnectInfo(ctx context.Context) (provider.ConnectInfo, error) {
	a.mu.Lock()
	ended := a.ended
	a.mu.Unlock()
	if ended != nil {
		return provider.ConnectInfo{}, ended
	}
	return a.on.connectInfo(ctx)
}

func (a *acquisition) WithContext(ctx context.Context) (context.Context, context.CancelFunc) {
	derived, cancel := context.WithCancelCause(ctx)

	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended != nil {
		cancel(a.ended)
		return derived, func() {}
	}
	number := a.next
	a.next++
	a.contexts[number] = cancel
	return derived, func() {
		a.mu.Lock()
		delete(a.contexts, number)
		a.mu.Unlock()
		cancel(nil)
	}
}
