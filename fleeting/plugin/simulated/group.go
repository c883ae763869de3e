package simulated

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

var (
	errRefused     = errors.New("simulated failure")
	errRateLimited = errors.New("simulated rate limit exceeded")
)

// call spends the time of a call and decides whether it fails.
func (g *Group) call(ctx context.Context, method string) error {
	if err := sleep(ctx, g.cfg.Latency); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.advance(now)
	g.stats.Calls[method]++
	if !g.allow(now) {
		g.stats.Failed++
		g.stats.RateLimited++
		return fmt.Errorf("%s: %w", method, errRateLimited)
	}
	if g.chance(g.cfg.CallFailureRate) {
		g.stats.Failed++
		return fmt.Errorf("%s: %w", method, errRefused)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// allow takes one call out of the rate limit; g.mu must be held.
func (g *Group) allow(now time.Time) bool {
	if g.cfg.RateLimit <= 0 {
		return true
	}
	g.tokens = min(math.Max(1, g.cfg.RateLimit), g.tokens+now.Sub(g.refilled).Seconds()*g.cfg.RateLimit)
	g.refilled = now
	if g.tokens < 1 {
		return false
	}
	g.tokens--
	return true
}

// chance draws; g.mu must be held.
func (g *Group) chance(rate float64) bool { return rate > 0 && g.random.Float64() < rate }

// Init returns the configured group.
func (g *Group) Init(ctx context.Context, _ hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	if err := g.call(ctx, "Init"); err != nil {
		return provider.ProviderInfo{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.settings = settings
	maxSize := g.cfg.MaxSize
	if maxSize == 0 {
		maxSize = math.MaxInt
	}
	return provider.ProviderInfo{
		ID:           "simulated/" + g.cfg.Name,
		MaxSize:      maxSize,
		Version:      "simulated",
		Capabilities: slices.Clone(g.cfg.Capabilities),
	}, nil
}

// Update reports what is listed by now.
func (g *Group) Update(ctx context.Context, fn func(instance string, state provider.State)) error {
	if err := g.call(ctx, "Update"); err != nil {
		return err
	}
	g.mu.Lock()
	now := time.Now()
	var listed []Instance
	for _, i := range g.sorted() {
		if !now.Before(i.listedAt) {
			listed = append(listed, Instance{ID: i.id, State: i.state})
		}
	}
	g.mu.Unlock()
	for _, i := range listed {
		fn(i.ID, i.State)
	}
	return nil
}

// Increase creates up to n instances, as many as MaxSize allows.
func (g *Group) Increase(ctx context.Context, n int) (int, error) {
	if err := g.call(ctx, "Increase"); err != nil {
		return 0, err
	}
	g.mu.Lock()
	now := time.Now()
	created, longest := 0, time.Duration(0)
	for ; created < n && (g.cfg.MaxSize == 0 || len(g.instances) < g.cfg.MaxSize); created++ {
		longest = max(longest, g.boot(now))
	}
	lost := g.chance(g.cfg.LostAnswerRate)
	g.mu.Unlock()

	if g.cfg.BlockingIncrease {
		if err := sleep(ctx, longest); err != nil {
			return created, err
		}
	}
	switch {
	case lost:
		return 0, fmt.Errorf("simulated loss of an answer: %w", context.DeadlineExceeded)
	case created < n:
		return created, fmt.Errorf("the group is full: %d instances", g.cfg.MaxSize)
	}
	return created, nil
}

// boot creates an instance and returns how long it boots; g.mu must be held.
func (g *Group) boot(now time.Time) time.Duration {
	takes := g.bootTime()
	switch {
	case g.chance(g.cfg.StuckBootRate):
		g.create(now, provider.StateCreating, provider.StateCreating, time.Time{})
	case g.chance(g.cfg.FailedBootRate):
		g.create(now, provider.StateCreating, provider.StateDeleted, now.Add(takes))
	default:
		g.create(now, provider.StateCreating, provider.StateRunning, now.Add(takes))
	}
	return takes
}

// bootTime draws how long a boot takes; g.mu must be held.
func (g *Group) bootTime() time.Duration {
	takes := g.cfg.BootTime
	if g.cfg.BootJitter > 0 {
		takes += time.Duration(g.random.Int64N(int64(g.cfg.BootJitter) + 1))
	}
	return takes
}

// create adds an instance; g.mu must be held.
func (g *Group) create(now time.Time, state, then provider.State, at time.Time) *instance {
	g.next++
	id := fmt.Sprintf("sim-%d", g.next)
	i := &instance{id: id, number: g.next, state: state, then: then, at: at, created: now, listedAt: now.Add(g.cfg.ListDelay)}
	g.instances[id] = i
	g.stats.Created++
	g.stats.Peak = max(g.stats.Peak, len(g.instances))
	return i
}

// Decrease deletes instances. One that is gone already counts as deleted.
func (g *Group) Decrease(ctx context.Context, instances []string) ([]string, error) {
	if err := g.call(ctx, "Decrease"); err != nil {
		return nil, err
	}
	g.move(instances, provider.StateDeleting, provider.StateDeleted, g.cfg.StopTime)
	return instances, nil
}

// Suspend stops running instances.
func (g *Group) Suspend(ctx context.Context, instances []string) ([]string, error) {
	if !slices.Contains(g.cfg.Capabilities, provider.CapabilitySuspendResume) {
		return nil, provider.ErrSuspendResumeNotSupported
	}
	if err := g.call(ctx, "Suspend"); err != nil {
		return nil, err
	}
	return g.move(instances, provider.StateSuspending, provider.StateSuspended, g.cfg.StopTime), nil
}

// Resume boots suspended instances.
func (g *Group) Resume(ctx context.Context, instances []string) ([]string, error) {
	if !slices.Contains(g.cfg.Capabilities, provider.CapabilitySuspendResume) {
		return nil, provider.ErrSuspendResumeNotSupported
	}
	if err := g.call(ctx, "Resume"); err != nil {
		return nil, err
	}
	g.mu.Lock()
	takes := g.bootTime()
	g.mu.Unlock()
	return g.move(instances, provider.StateResuming, provider.StateRunning, takes), nil
}

// move changes the states of the instances that exist and returns their ids.
func (g *Group) move(ids []string, state, then provider.State, takes time.Duration) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	var moved []string
	for _, id := range ids {
		i, ok := g.instances[id]
		if !ok {
			continue
		}
		if i.state != state {
			i.state, i.then, i.at = state, then, now.Add(takes)
		}
		moved = append(moved, id)
	}
	return moved
}

// ConnectInfo answers with the settings and addresses that lead nowhere.
func (g *Group) ConnectInfo(ctx context.Context, id string) (provider.ConnectInfo, error) {
	if err := g.call(ctx, "ConnectInfo"); err != nil {
		return provider.ConnectInfo{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.instances[id]; !ok {
		return provider.ConnectInfo{}, fmt.Errorf("no such instance: %q", id)
	}
	info := provider.ConnectInfo{
		ConnectorConfig: g.settings.ConnectorConfig,
		ID:              id,
		ExternalAddr:    "192.0.2.1",
		InternalAddr:    "192.0.2.1",
	}
	if info.Protocol == "" {
		info.Protocol = provider.ProtocolSSH
	}
	return info, nil
}

// Heartbeat finds instances healthy that run.
func (g *Group) Heartbeat(ctx context.Context, id string) error {
	if err := g.call(ctx, "Heartbeat"); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	i, ok := g.instances[id]
	if !ok || i.state != provider.StateRunning || g.chance(g.cfg.HeartbeatFailureRate) {
		return fmt.Errorf("instance %q: %w", id, provider.ErrInstanceUnhealthy)
	}
	return nil
}

// Shutdown does nothing but count.
func (g *Group) Shutdown(ctx context.Context) error { return g.call(ctx, "Shutdown") }
