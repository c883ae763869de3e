// Package dummy is an instance group in memory, for tests of everything that works with one. Its
// instances take a step of their life at each Update: one that was created runs at the next, one that
// was deleted is gone at the next, and so on. Faults of every kind can be put in, by method calls when
// the group is used directly, by its JSON configuration when it is served as a plugin. It must not be
// used in production. The zero value with MaxSize set is ready for use; all methods are safe for
// concurrent use.
package dummy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// InstanceGroup is the group. Its exported fields are its configuration, to be set before Init.
type InstanceGroup struct {
	// MaxSize is the maximum number of instances; 0 sets none.
	MaxSize int
	// Name is part of the group's id.
	Name string
	// Capabilities are declared by Init.
	Capabilities []provider.Capability
	// Preexisting is the number of running instances found by Init.
	Preexisting int
	// Faults are what goes wrong, by the name of the method; they come into effect at Init.
	Faults map[string]Fault

	mu        sync.Mutex
	settings  provider.Settings
	logger    hclog.Logger
	instances []*Instance
	created   int
	calls     map[string]int
	faults    map[string]Fault
}

// Fault is what goes wrong in a method. Each field that is set takes effect, in this order.
type Fault struct {
	// Calls is the number of calls after which the fault is over; 0 means never.
	Calls int
	// Skip is the number of calls before the fault begins.
	Skip int
	// Panic crashes the process, or the test, with this text.
	Panic string
	// Exit ends the process with this status.
	Exit int
	// Delay is how long the method takes, in any case.
	Delay time.Duration
	// Hang has the method wait until its context ends.
	Hang bool
	// Stderr is written to the standard error output.
	Stderr string
	// Error is returned, with nothing done.
	Error string
}

// Instance is one instance.
type Instance struct {
	ID    string
	State provider.State
	// Stuck instances stay in their state until SetState.
	Stuck bool
}

var _ provider.InstanceGroup = (*InstanceGroup)(nil)

// List returns the instances in order of their creation.
func (g *InstanceGroup) List() []Instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]Instance, len(g.instances))
	for i, instance := range g.instances {
		list[i] = *instance
	}
	return list
}

// CallCount returns how often a method of provider.InstanceGroup was called.
func (g *InstanceGroup) CallCount(method string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls[method]
}

// Add puts in an instance that nobody asked for.
func (g *InstanceGroup) Add(id string, state provider.State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.instances = append(g.instances, &Instance{ID: id, State: state})
}

// Remove takes out an instance as if it had vanished.
func (g *InstanceGroup) Remove(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.instances = slices.DeleteFunc(g.instances, func(i *Instance) bool { return i.ID == id })
}

// SetState puts an instance in a state; stuck says whether it stays there.
func (g *InstanceGroup) SetState(id string, state provider.State, stuck bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if instance := g.find(id); instance != nil {
		instance.State, instance.Stuck = state, stuck
	}
}

// SetFault replaces what goes wrong in a method; the zero Fault ends it.
func (g *InstanceGroup) SetFault(method string, fault Fault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.faults == nil {
		g.faults = map[string]Fault{}
	}
	g.faults[method] = fault
}

// Settings returns the settings that Init was called with.
func (g *InstanceGroup) Settings() provider.Settings {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.settings
}

func (g *InstanceGroup) find(id string) *Instance {
	i := slices.IndexFunc(g.instances, func(i *Instance) bool { return i.ID == id })
	if i < 0 {
		return nil
	}
	return g.instances[i]
}

// enter counts a call and lets its fault take effect.
func (g *InstanceGroup) enter(ctx context.Context, method string) error {
	g.mu.Lock()
	if g.calls == nil {
		g.calls = map[string]int{}
	}
	g.calls[method]++
	fault := g.faults[method]
	active := fault.Skip == 0
	switch {
	case !active:
		fault.Skip--
		g.faults[method] = fault
	case fault.Calls == 1:
		delete(g.faults, method)
	case fault.Calls > 1:
		fault.Calls--
		g.faults[method] = fault
	}
	g.mu.Unlock()
	if !active {
		return nil
	}
	return fault.take(ctx)
}

// take lets a fault take effect.
func (f Fault) take(ctx context.Context) error {
	if f.Panic != "" {
		panic(f.Panic)
	}
	if f.Exit != 0 {
		os.Exit(f.Exit)
	}
	if f.Delay > 0 {
		select {
		case <-time.After(f.Delay):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if f.Hang {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if f.Stderr != "" {
		fmt.Fprintln(os.Stderr, f.Stderr)
	}
	if f.Error != "" {
		return errors.New(f.Error)
	}
	return nil
}
