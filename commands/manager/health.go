package manager

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

const (
	defaultUnhealthyRequests = 3
	defaultUnhealthyInterval = time.Hour
)

// health parks runner entries whose requests are refused again and again.
type health struct {
	mu      sync.Mutex
	entries map[config.Identity]*healthState
}

type healthState struct {
	failures  int
	lastGood  time.Time
	announced bool
}

func newHealth() *health { return &health{entries: map[config.Identity]*healthState{}} }

// reset forgets everything, as a new configuration may have cured it.
func (h *health) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries = map[config.Identity]*healthState{}
}

// healthy says whether an entry may ask for jobs. One that is parked is tried again after its interval.
func (h *health) healthy(runner *config.Runner, log *logrus.Logger) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	state := h.entry(runner)
	limit, interval := unhealthyLimits(runner)
	if state.failures < limit {
		return true
	}
	entry := log.WithFields(logrus.Fields{"runner": runner.ShortToken(), "runner_name": runner.Name})
	if time.Since(state.lastGood) < interval {
		if !state.announced {
			state.announced = true
			entry.WithFields(logrus.Fields{"unhealthy_requests": state.failures, "unhealthy_interval": interval}).
				Errorf("Runner is unhealthy and will be disabled for %s", interval)
		}
		return false
	}
	entry.Warning("Runner is being enabled again after it was unhealthy")
	*state = healthState{lastGood: time.Now()}
	return true
}

// unhealthyLimits are how many requests may fail in a row, and for how long an entry is parked then.
func unhealthyLimits(runner *config.Runner) (int, time.Duration) {
	limit, interval := defaultUnhealthyRequests, defaultUnhealthyInterval
	if runner.UnhealthyRequestsLimit > 0 {
		limit = runner.UnhealthyRequestsLimit
	}
	if runner.UnhealthyInterval != nil && *runner.UnhealthyInterval > 0 {
		interval = *runner.UnhealthyInterval
	}
	return limit, interval
}

// parked says whether an entry asks for no jobs because of its health. It changes nothing.
func (h *health) parked(runner *config.Runner) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	state, ok := h.entries[runner.Identity()]
	limit, interval := unhealthyLimits(runner)
	return ok && state.failures >= limit && time.Since(state.lastGood) < interval
}

// mark counts the outcome of a request.
func (h *health) mark(runner *config.Runner, good bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	state := h.entry(runner)
	if good {
		*state = healthState{lastGood: time.Now()}
		return
	}
	state.failures++
}

// entry returns the state of an entry. The caller holds the lock.
func (h *health) entry(runner *config.Runner) *healthState {
	key := runner.Identity()
	state, ok := h.entries[key]
	if !ok {
		state = &healthState{lastGood: time.Now()}
		h.entries[key] = state
	}
	return state
}
