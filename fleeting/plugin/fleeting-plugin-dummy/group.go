package dummy

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Init reports the group as it was configured.
func (g *InstanceGroup) Init(ctx context.Context, logger hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	g.mu.Lock()
	for method, fault := range g.Faults {
		if g.faults == nil {
			g.faults = map[string]Fault{}
		}
		g.faults[method] = fault
	}
	g.Faults = nil
	g.mu.Unlock()
	if err := g.enter(ctx, "Init"); err != nil {
		return provider.ProviderInfo{}, err
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	g.settings, g.logger = settings, logger
	for range g.Preexisting {
		g.add(provider.StateRunning)
	}
	g.Preexisting = 0
	maxSize := g.MaxSize
	if maxSize == 0 {
		maxSize = math.MaxInt
	}
	logger.Info("dummy group initialised", "name", g.Name, "max_size", maxSize)
	return provider.ProviderInfo{
		ID:           "dummy/" + g.Name,
		MaxSize:      maxSize,
		Version:      "dummy",
		BuildInfo:    "in memory",
		Capabilities: slices.Clone(g.Capabilities),
	}, nil
}

// add creates an instance; g.mu must be held.
func (g *InstanceGroup) add(state provider.State) {
	g.created++
	g.instances = append(g.instances, &Instance{ID: fmt.Sprintf("dummy-%d", g.created), State: state})
}

// Update has every instance take a step of its life, then reports it.
func (g *InstanceGroup) Update(ctx context.Context, fn func(instance string, state provider.State)) error {
	if err := g.enter(ctx, "Update"); err != nil {
		return err
	}
	g.mu.Lock()
	g.instances = slices.DeleteFunc(g.instances, func(i *Instance) bool {
		if !i.Stuck {
			i.State = next(i.State)
		}
		return i.State == provider.StateDeleted
	})
	g.mu.Unlock()
	for _, instance := range g.List() {
		fn(instance.ID, instance.State)
	}
	return nil
}

// next is the state that follows by itself.
func next(s provider.State) provider.State {
	switch s {
	case provider.StateCreating, provider.StateResuming:
		return provider.StateRunning
	case provider.StateDeleting:
		return provider.StateDeleted
	case provider.StateSuspending:
		return provider.StateSuspended
	default:
		return s
	}
}

// Increase creates up to n instances, as many as MaxSize allows.
func (g *InstanceGroup) Increase(ctx context.Context, n int) (int, error) {
	if err := g.enter(ctx, "Increase"); err != nil {
		return 0, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range n {
		if g.MaxSize > 0 && len(g.instances) >= g.MaxSize {
			return i, fmt.Errorf("the group is full: %d instances", g.MaxSize)
		}
		g.add(provider.StateCreating)
	}
	return n, nil
}

// Decrease deletes the instances that exist.
func (g *InstanceGroup) Decrease(ctx context.Context, instances []string) ([]string, error) {
	return g.move(ctx, "Decrease", instances, provider.StateDeleting)
}

// Suspend suspends the instances that exist, if the capability is declared.
func (g *InstanceGroup) Suspend(ctx context.Context, instances []string) ([]string, error) {
	return g.moveIfCapable(ctx, "Suspend", instances, provider.StateSuspending)
}

// Resume resumes the instances that exist, if the capability is declared.
func (g *InstanceGroup) Resume(ctx context.Context, instances []string) ([]string, error) {
	return g.moveIfCapable(ctx, "Resume", instances, provider.StateResuming)
}

func (g *InstanceGroup) moveIfCapable(ctx context.Context, method string, ids []string, to provider.State) ([]string, error) {
	if !slices.Contains(g.Capabilities, provider.CapabilitySuspendResume) {
		return nil, provider.ErrSuspendResumeNotSupported
	}
	return g.move(ctx, method, ids, to)
}

func (g *InstanceGroup) move(ctx context.Context, method string, ids []string, to provider.State) ([]string, error) {
	if err := g.enter(ctx, method); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var succeeded, unknown []string
	for _, id := range ids {
		instance := g.find(id)
		if instance == nil {
			unknown = append(unknown, id)
			continue
		}
		if !instance.Stuck {
			instance.State = to
		}
		succeeded = append(succeeded, id)
	}
	if len(unknown) > 0 {
		return succeeded, fmt.Errorf("no such instances: %q", unknown)
	}
	return succeeded, nil
}

// ConnectInfo answers with the settings and addresses that lead nowhere.
func (g *InstanceGroup) ConnectInfo(ctx context.Context, instance string) (provider.ConnectInfo, error) {
	if err := g.enter(ctx, "ConnectInfo"); err != nil {
		return provider.ConnectInfo{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.find(instance) == nil {
		return provider.ConnectInfo{}, fmt.Errorf("no such instance: %q", instance)
	}
	info := provider.ConnectInfo{
		ConnectorConfig: g.settings.ConnectorConfig,
		ID:              instance,
		ExternalAddr:    "192.0.2.1",
		InternalAddr:    "192.0.2.1",
	}
	if info.OS == "" {
		info.OS = runtime.GOOS
	}
	if info.Arch == "" {
		info.Arch = runtime.GOARCH
	}
	if info.Protocol == "" {
		info.Protocol = provider.ProtocolSSH
	}
	return info, nil
}

// Heartbeat finds every instance healthy that runs.
func (g *InstanceGroup) Heartbeat(ctx context.Context, instance string) error {
	if err := g.enter(ctx, "Heartbeat"); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := g.find(instance); i == nil || i.State != provider.StateRunning {
		return fmt.Errorf("instance %q does not run: %w", instance, provider.ErrInstanceUnhealthy)
	}
	return nil
}

// Shutdown does nothing but count.
func (g *InstanceGroup) Shutdown(ctx context.Context) error { return g.enter(ctx, "Shutdown") }
