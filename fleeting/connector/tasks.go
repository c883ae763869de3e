package connector

import (
	"context"
	"net"
	"sync"
)

// tasks are the goroutines of a client.
type tasks struct {
	// ctx ends, with net.ErrClosed as its cause, when the client is closed.
	ctx    context.Context
	cancel context.CancelCauseFunc

	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup
}

func newTasks() *tasks {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &tasks{ctx: ctx, cancel: cancel}
}

// start runs the functions as goroutines, or none of them when the client was closed.
func (t *tasks) start(functions ...func()) error {
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.closed {
		return net.ErrClosed
	}
	for _, function := range functions {
		t.group.Go(function)
	}
	return nil
}

// close refuses further goroutines and tells the others to end. It reports whether it was the first
// call.
func (t *tasks) close() bool {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	t.mu.Unlock()

	t.cancel(net.ErrClosed)
	return first
}

// wait returns when all goroutines have ended. It must come after close.
func (t *tasks) wait() { t.group.Wait() }
