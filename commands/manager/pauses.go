package manager

import (
	"sync"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// pauses knows the runner entries that ask for no jobs because the operator said so. It is safe for
// concurrent use.
type pauses struct {
	mu      sync.Mutex
	entries map[config.Identity]bool
}

func newPauses() *pauses { return &pauses{entries: map[config.Identity]bool{}} }

// set pauses an entry or takes that back, and returns whether that changes anything.
func (p *pauses) set(runner *config.Runner, paused bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := runner.Identity()
	changed := p.entries[key] != paused
	if paused {
		p.entries[key] = true
	} else {
		delete(p.entries, key)
	}
	return changed
}

func (p *pauses) has(runner *config.Runner) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entries[runner.Identity()]
}
