package taskscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/taskscaler/storage"
)

// recordRetryDelay is the time after which a failed write is repeated.
const recordRetryDelay = 10 * time.Second

// recorder writes states to the storage, in a goroutine of its own so that nobody waits for a disk who
// does not have to. Of several states of one instance that wait to be written only the last is.
type recorder struct {
	storage storage.Storage
	logger  hclog.Logger

	mu      sync.Mutex
	pending map[string]*record
	// order holds the ids of the pending records, the oldest first.
	order []string

	wake    chan struct{}
	closing chan struct{}
	closed  chan struct{}
}

// record is a state to be written.
type record struct {
	id string
	// state is nil if the state is to be deleted.
	state *storage.State
	// done is closed when the write was made or has failed once.
	done chan struct{}
	// retry tells that an earlier write of the same state failed.
	retry bool
}

// newRecorder starts a recorder. Without a storage it does nothing.
func newRecorder(s storage.Storage, logger hclog.Logger) *recorder {
	r := &recorder{
		storage: s,
		logger:  logger,
		pending: map[string]*record{},
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	if s == nil {
		close(r.closed)
		return r
	}
	go r.run()
	return r
}

// active tells whether there is a storage.
func (r *recorder) active() bool { return r.storage != nil }

// put has a state written and returns a channel that is closed when that was tried.
func (r *recorder) put(state storage.State) <-chan struct{} {
	return r.add(&record{id: state.ID, state: &state, done: make(chan struct{})})
}

// remove has a state deleted.
func (r *recorder) remove(id string) {
	r.add(&record{id: id, done: make(chan struct{})})
}

func (r *recorder) add(rec *record) <-chan struct{} {
	if !r.active() {
		close(rec.done)
		return rec.done
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if older, ok := r.pending[rec.id]; ok {
		if !older.retry {
			// Who waits for the older state waits for this one.
			rec.done = older.done
		}
	} else {
		r.order = append(r.order, rec.id)
	}
	r.pending[rec.id] = rec
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return rec.done
}

// next takes the oldest pending record, or nil.
func (r *recorder) next() *record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.order) == 0 {
		return nil
	}
	rec := r.pending[r.order[0]]
	delete(r.pending, rec.id)
	r.order = r.order[1:]
	return rec
}

// again puts a record that could not be written back, unless there is a newer one.
func (r *recorder) again(rec *record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.pending[rec.id]; !ok {
		r.pending[rec.id] = rec
		r.order = append(r.order, rec.id)
	}
}

func (r *recorder) run() {
	defer close(r.closed)
	timer := time.NewTimer(recordRetryDelay)
	defer timer.Stop()
	for {
		failed := r.flush()
		timer.Stop()
		if failed {
			timer.Reset(recordRetryDelay)
		}
		select {
		case <-r.wake:
		case <-timer.C:
		case <-r.closing:
			r.flush()
			return
		}
	}
}

// flush writes everything that is pending now and tells whether some of it failed.
func (r *recorder) flush() (failed bool) {
	// A state that came while an older one of its instance failed takes the place of that.
	failures := map[string]*record{}
	for rec := r.next(); rec != nil; rec = r.next() {
		delete(failures, rec.id)
		var err error
		if rec.state == nil {
			err = r.storage.Delete(rec.id)
		} else {
			err = r.write(*rec.state)
		}
		if err != nil {
			r.logger.Error("recording instance state failed", "instance", rec.id, "err", err, "retry_in", recordRetryDelay)
			failures[rec.id] = rec
		}
		if !rec.retry {
			close(rec.done)
		}
	}
	for _, rec := range failures {
		rec.retry = true
		r.again(rec)
	}
	return len(failures) > 0
}

// write stores a state. If that fails, as on a full disk, an older state must not outlive this process that says nothing
// of a task which is there now: the next process would take the instance for one that this task never used. Without
// any state it will not trust the instance.
func (r *recorder) write(state storage.State) error {
	err := r.storage.Put(state)
	if err == nil || !slices.ContainsFunc(state.Acquisitions, func(a storage.Acquisition) bool { return !a.Suspended }) {
		return err
	}
	if removal := r.storage.Delete(state.ID); removal != nil {
		return errors.Join(err, fmt.Errorf("removing the older state: %w", removal))
	}
	return err
}

// close writes what is pending and ends the recorder. It returns when that is done or ctx ends.
func (r *recorder) close(ctx context.Context) {
	if !r.active() {
		return
	}
	close(r.closing)
	select {
	case <-r.closed:
	case <-ctx.Done():
		r.logger.Error("the storage did not take the last states of the instances in time", "err", context.Cause(ctx))
	}
}
