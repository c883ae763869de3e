package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"pgregory.net/rapid"
)

// step is one event of a history: what happens, to which of the instances there are, and whether the
// next event comes before its consequences.
type step struct {
	event string
	which int
	hasty bool
}

// world is a group that is watched.
type world struct {
	engine *fakeEngine
	group  *InstanceGroup
	// doomed are the instances the plugin may remove: somebody asked, or they ended.
	doomed  map[string]bool
	removed int
}

func (w *world) start(ctx context.Context) error {
	w.group = &InstanceGroup{Config: Config{MaxSize: 4}, engine: w.engine}
	_, err := w.group.Init(ctx, hclog.NewNullLogger(), provider.Settings{})
	return err
}

// play runs a history and returns the first thing that must never happen.
func play(ctx context.Context, history []step) error {
	w := &world{engine: newFakeEngine(), doomed: map[string]bool{}}
	if err := w.start(ctx); err != nil {
		return err
	}
	for i, s := range history {
		if err := w.apply(ctx, s); err != nil {
			return fmt.Errorf("step %d, %v: %w", i, s, err)
		}
		if !s.hasty {
			synctest.Wait()
		}
		if err := w.check(ctx); err != nil {
			return fmt.Errorf("step %d, %v: %w", i, s, err)
		}
	}
	// Whatever happened, the group comes to rest.
	w.engine.setMute(false)
	for _, name := range w.engine.instances() {
		w.engine.with(name, func(c *fakeContainer) {
			if c.state == containerRunning {
				c.print(readyLine)
			}
		})
	}
	for range 3 {
		synctest.Wait()
		if err := w.check(ctx); err != nil {
			return fmt.Errorf("at rest: %w", err)
		}
	}
	seen, err := w.update(ctx)
	if err != nil {
		return err
	}
	for id, state := range seen {
		if state != provider.StateRunning && state != provider.StateSuspended {
			return fmt.Errorf("instance %s stays %s", id, state)
		}
	}
	return w.group.Shutdown(ctx)
}

func (w *world) apply(ctx context.Context, s step) error {
	names := w.engine.instances()
	var id, name string
	if len(names) > 0 {
		name = names[s.which%len(names)]
		id, _ = instanceOf(name)
	}
	switch s.event {
	case "increase":
		n, _ := w.group.Increase(ctx, s.which%3+1)
		if got := len(w.engine.instances()); n > s.which%3+1 || got > 8 {
			return fmt.Errorf("increased by %d, now %d", n, got)
		}
	case "decrease":
		if id != "" {
			w.doomed[id] = true
			_, err := w.group.Decrease(ctx, []string{id})
			return err
		}
	case "kill":
		if name != "" {
			w.engine.with(name, func(c *fakeContainer) {
				if c.state == containerRunning {
					c.end(137)
				}
			})
			w.doomed[id] = true
		}
	case "steal":
		if name != "" {
			w.doomed[id] = true
			return w.engine.Remove(ctx, name)
		}
	case "suspend":
		_, _ = w.group.Suspend(ctx, []string{id})
	case "resume":
		_, _ = w.group.Resume(ctx, []string{id})
	case "slow":
		w.engine.setMute(s.which%2 == 0)
	case "ready":
		if name != "" {
			w.engine.with(name, func(c *fakeContainer) {
				if c.state == containerRunning {
					c.print(readyLine)
				}
			})
		}
	case "restart":
		for _, name := range names {
			w.engine.with(name, func(c *fakeContainer) {
				if id, _ := instanceOf(name); c.state == containerCreated {
					w.doomed[id] = true
				}
			})
		}
		if err := w.group.Shutdown(ctx); err != nil {
			return err
		}
		return w.start(ctx)
	}
	return nil
}

func (w *world) update(ctx context.Context) (map[string]provider.State, error) {
	seen := map[string]provider.State{}
	err := w.group.Update(ctx, func(id string, state provider.State) { seen[id] = state })
	return seen, err
}

func (w *world) check(ctx context.Context) error {
	seen, err := w.update(ctx)
	if err != nil {
		return err
	}
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	for _, name := range w.engine.removed[w.removed:] {
		if id, _ := instanceOf(name); !w.doomed[id] && !strings.Contains(name, "probe") {
			return fmt.Errorf("instance %s was removed for no reason", id)
		}
	}
	w.removed = len(w.engine.removed)
	for id, state := range seen {
		c := w.engine.containers[id]
		if state != provider.StateRunning {
			continue
		}
		if c == nil || c.state != containerRunning || !strings.Contains(c.output.String()[c.startedAtByte:], readyLine) {
			return fmt.Errorf("instance %s is not up but %s", id, state)
		}
	}
	return nil
}

func TestSafetyOfRandomHistories(t *testing.T) {
	events := []string{
		"increase", "increase", "suspend", "suspend", "resume", "resume", "slow", "ready", "restart", "restart",
		"decrease", "kill", "steal",
	}
	rapid.Check(t, func(rt *rapid.T) {
		history := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
			return step{
				event: rapid.SampledFrom(events).Draw(rt, "event"),
				which: rapid.IntRange(0, 5).Draw(rt, "which"),
				hasty: rapid.Bool().Draw(rt, "hasty"),
			}
		}), 10, 60).Draw(rt, "history")
		var failure error
		synctest.Test(t, func(t *testing.T) { failure = play(t.Context(), slices.Clone(history)) })
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}
