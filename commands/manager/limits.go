package manager

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
)

// limiter bounds how many of something there are at once. The bound may change at any time; what is
// above a lowered one ends by itself.
type limiter struct {
	mu    sync.Mutex
	limit int
	used  int
	// changed is closed and replaced whenever room may have come.
	changed chan struct{}
}

func newLimiter(limit int) *limiter {
	return &limiter{limit: limit, changed: make(chan struct{})}
}

func (l *limiter) setLimit(limit int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = limit
	l.wake()
}

func (l *limiter) wake() {
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *limiter) tryAcquire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used >= l.limit {
		return false
	}
	l.used++
	return true
}

// acquire waits for room; false means that ctx ended first.
func (l *limiter) acquire(ctx context.Context) bool {
	for ctx.Err() == nil {
		l.mu.Lock()
		if l.used < l.limit {
			l.used++
			l.mu.Unlock()
			return true
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return false
}

func (l *limiter) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
	l.wake()
}

func (l *limiter) limitNow() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit
}

// requests keeps the limits per runner entry: jobs under way and job requests in flight. The latter
// float between 1 and request_concurrency, with what the server answers.
type requests struct {
	mu      sync.Mutex
	entries map[config.Identity]*requestState
}

type requestState struct {
	jobs     int
	inFlight int
	adaptive float64
}

// The changes of the adaptive limit after a request.
const (
	gotJob     = 1.1
	gotNothing = 0.95
	pushedBack = 0.5
)

func newRequests() *requests { return &requests{entries: map[config.Identity]*requestState{}} }

// entry returns the state of an entry. The caller holds the lock.
func (r *requests) entry(runner *config.Runner) *requestState {
	id := runner.Identity()
	state, ok := r.entries[id]
	if !ok {
		state = &requestState{adaptive: 1}
		r.entries[id] = state
	}
	return state
}

// keep forgets the entries that are gone and have neither jobs nor requests any more.
func (r *requests) keep(runners []*config.Runner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.entries, func(id config.Identity, state *requestState) bool {
		return state.jobs == 0 && state.inFlight == 0 &&
			!slices.ContainsFunc(runners, func(runner *config.Runner) bool { return runner.Identity() == id })
	})
}

// acquireJob takes one of the entry's jobs, as limit allows.
func (r *requests) acquireJob(runner *config.Runner) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.entry(runner)
	if runner.Limit > 0 && state.jobs >= runner.Limit {
		return false
	}
	state.jobs++
	return true
}

func (r *requests) releaseJob(runner *config.Runner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entry(runner).jobs--
}

// acquireRequest takes one of the requests that may be in flight.
func (r *requests) acquireRequest(runner *config.Runner) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.entry(runner)
	if state.inFlight >= limitOf(runner, state) {
		return false
	}
	state.inFlight++
	return true
}

// releaseRequest gives a request back and lets the adaptive limit follow its outcome.
func (r *requests) releaseRequest(runner *config.Runner, factor float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.entry(runner)
	state.inFlight--
	state.adaptive = min(max(state.adaptive*factor, 1), float64(ceiling(runner)))
}

func ceiling(runner *config.Runner) int { return max(runner.RequestConcurrency, 1) }

func limitOf(runner *config.Runner, state *requestState) int {
	if on, set := runner.FeatureFlags[featureflags.AdaptiveRequestConcurrency]; set && !on {
		return ceiling(runner)
	}
	return min(int(math.Ceil(state.adaptive)), ceiling(runner))
}

// requestCounts is what is shown of an entry.
type requestCounts struct {
	inFlight, hard, used int
	adaptive             float64
}

func (r *requests) counts(runner *config.Runner) requestCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	state := r.entry(runner)
	return requestCounts{inFlight: state.inFlight, hard: ceiling(runner), used: limitOf(runner, state), adaptive: state.adaptive}
}

// concurrentIDs hands out the smallest free numbers of running jobs.
type concurrentIDs struct {
	mu   sync.Mutex
	used map[idScope]map[int]bool
}

// idScope is a runner entry and a project, 0 for all projects.
type idScope struct {
	entry   config.Identity
	project int64
}

func newConcurrentIDs() *concurrentIDs {
	return &concurrentIDs{used: map[idScope]map[int]bool{}}
}

// take returns a job's numbers and what gives them back.
func (c *concurrentIDs) take(entry config.Identity, project int64) (id, projectID int, release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	runner, ofProject := idScope{entry: entry}, idScope{entry: entry, project: project}
	id, projectID = c.free(runner), c.free(ofProject)
	return id, projectID, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.giveBack(runner, id)
		c.giveBack(ofProject, projectID)
	}
}

func (c *concurrentIDs) free(scope idScope) int {
	used, ok := c.used[scope]
	if !ok {
		used = map[int]bool{}
		c.used[scope] = used
	}
	n := 0
	for used[n] {
		n++
	}
	used[n] = true
	return n
}

func (c *concurrentIDs) giveBack(scope idScope, n int) {
	delete(c.used[scope], n)
	if len(c.used[scope]) == 0 {
		delete(c.used, scope)
	}
}
