package images

import (
	"context"
	"errors"
	"sync"
)

// Pulls makes identical pulls on one machine happen once. It is safe for concurrent use; the zero value
// is ready.
type Pulls struct {
	mu      sync.Mutex
	running map[string]*running
}

// running is a pull under way. Its error may be read when done is closed.
type running struct {
	done chan struct{}
	// tally is how far it is; nothing is ever reported to that of work which is no pull of an image.
	tally     *tally
	err       error
	abandoned bool
}

var errAbandoned = errors.New("the pull was given up")

// Do calls pull, unless a call with the same key is under way: then it waits for that one and returns
// its error. When the job that pulls is given up, one of those that wait pulls in its place.
func (p *Pulls) Do(ctx context.Context, key string, pull func() error) error {
	return p.do(ctx, key, func(*tally) error { return pull() }, func(context.Context, *tally) {})
}

// do is Do for a pull that tells how far it is. While it waits for another one it runs watch, whose context
// ends with the waiting.
func (p *Pulls) do(ctx context.Context, key string, pull func(*tally) error, watch func(context.Context, *tally)) error {
	for {
		other := p.begin(key)
		if other == nil {
			return p.lead(ctx, key, pull)
		}
		if err := other.wait(ctx, watch); !errors.Is(err, errAbandoned) {
			return err
		}
	}
}

// wait returns how the pull ended, errAbandoned if its job was given up.
func (r *running) wait(ctx context.Context, watch func(context.Context, *tally)) error {
	watched, stop := context.WithCancelCause(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() { watch(watched, r.tally) })
	defer watcher.Wait()
	defer stop(errPullEnded)
	select {
	case <-r.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if r.abandoned {
		return errAbandoned
	}
	return r.err
}

// begin returns the pull under way, or nil after making the caller the one who pulls.
func (p *Pulls) begin(key string) *running {
	p.mu.Lock()
	defer p.mu.Unlock()
	if other, ok := p.running[key]; ok {
		return other
	}
	if p.running == nil {
		p.running = map[string]*running{}
	}
	p.running[key] = &running{done: make(chan struct{}), tally: newTally(), err: errAbandoned, abandoned: true}
	return nil
}

func (p *Pulls) lead(ctx context.Context, key string, pull func(*tally) error) error {
	p.mu.Lock()
	own := p.running[key]
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.running, key)
		close(own.done)
	}()
	err := pull(own.tally)
	own.err, own.abandoned = err, err != nil && ctx.Err() != nil
	return err
}
