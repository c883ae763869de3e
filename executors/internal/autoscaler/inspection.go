package autoscaler

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"gitlab.com/gitlab-org/fleeting/taskscaler"
)

// FleetStatus is what the fleet of one runner entry is at, at one moment.
type FleetStatus struct {
	// Runner is the short token of the entry, RunnerName its name.
	Runner     string `json:"runner"`
	RunnerName string `json:"runner_name"`
	// Plugin is the name of the fleeting plugin.
	Plugin string `json:"plugin"`
	// Leaving says that the entry is gone from the configuration and the fleet waits for its last jobs.
	Leaving bool `json:"leaving"`
	taskscaler.Snapshot
}

// ErrUnknownInstance is wrapped by the error of Drain for an instance that no fleet has.
var ErrUnknownInstance = taskscaler.ErrUnknownInstance

// Fleets returns the status of all fleets, sorted by name and token of their entries. No lock is held
// when it returns.
func (p *Provider) Fleets() []FleetStatus {
	out := []FleetStatus{}
	for _, f := range p.all() {
		if inspector, entry := f.inspector(); inspector != nil && entry != nil {
			out = append(out, FleetStatus{
				Runner: entry.ShortToken(), RunnerName: entry.Name, Plugin: entry.Autoscaler.Plugin,
				Leaving: f.gate.isClosing(), Snapshot: inspector.Snapshot(),
			})
		}
	}
	slices.SortFunc(out, func(a, b FleetStatus) int {
		return cmp.Or(cmp.Compare(a.RunnerName, b.RunnerName), cmp.Compare(a.Runner, b.Runner))
	})
	return out
}

// Drain has an instance take no more jobs and removed when its last one has ended. Of the fleets whose
// entry accept accepts by its short token and name, the one that has the instance is asked; it fails
// with an error that wraps ErrUnknownInstance if none has.
func (p *Provider) Drain(instance string, accept func(runner, name string) bool) error {
	for _, f := range p.all() {
		inspector, entry := f.inspector()
		if inspector == nil || entry == nil || !accept(entry.ShortToken(), entry.Name) {
			continue
		}
		if err := inspector.Drain(instance); err == nil || !errors.Is(err, ErrUnknownInstance) {
			return err
		}
	}
	return fmt.Errorf("draining instance %q: %w", instance, ErrUnknownInstance)
}

func (p *Provider) all() []*fleet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.fleets))
}
