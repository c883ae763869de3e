package docker

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

const (
	// recentLimit bounds how many images are remembered of one runner entry.
	recentLimit = 256
	// recentLife is how long an image is remembered after its last use.
	recentLife = 7 * 24 * time.Hour
	// recentUses is how many jobs must have used an image before it is one of the entry's: a name that
	// each pipeline makes anew is of no use to the next one.
	recentUses = 2
)

// recent remembers the images that jobs of each runner entry used, for as long as the process lives. It is
// safe for concurrent use.
type recent struct {
	mu      sync.Mutex
	entries map[string]map[string]use
}

// use is what is known of one image.
type use struct {
	jobs int
	last time.Time
}

// note counts a job of the entry that uses the images.
func (r *recent) note(runner *config.Runner, now time.Time, names ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.entries == nil {
		r.entries = map[string]map[string]use{}
	}
	uses := r.entries[runner.Token]
	if uses == nil {
		uses = map[string]use{}
		r.entries[runner.Token] = uses
	}
	for _, name := range names {
		uses[name] = use{jobs: uses[name].jobs + 1, last: now}
	}
	for len(uses) > recentLimit {
		delete(uses, oldest(uses))
	}
}

// names are at most so many images of the entry, the one that was used last first.
func (r *recent) names(runner *config.Runner, now time.Time, most int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	uses := r.entries[runner.Token]
	var names []string
	for name, u := range uses {
		if u.jobs >= recentUses && now.Sub(u.last) < recentLife {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(uses[b].last.Compare(uses[a].last), cmp.Compare(a, b))
	})
	return names[:min(len(names), max(most, 0))]
}

func oldest(uses map[string]use) string {
	found := ""
	for name, u := range uses {
		if found == "" || u.last.Before(uses[found].last) {
			found = name
		}
	}
	return found
}
