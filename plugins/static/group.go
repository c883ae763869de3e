package static

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const (
	// parallelProbes is how many hosts are looked at at once.
	parallelProbes = 16

	// Pauses between two runs of a reset command that fails.
	firstResetPause = 5 * time.Second
	maxResetPause   = 5 * time.Minute
)

var errShutdown = errors.New("the plugin shuts down")

// InstanceGroup is a group of hosts. Its configuration is decoded into the embedded Config before Init.
type InstanceGroup struct {
	Config
	// Version and BuildInfo describe the plugin's binary in ProviderInfo.
	Version   string `json:"-"`
	BuildInfo string `json:"-"`

	log   hclog.Logger
	fleet fleet
	reach reach

	mu        sync.Mutex
	uses      map[string]use
	ownership *ownership
	owned     bool

	// The resets outlive the call that asked for them.
	ctx    context.Context
	cancel context.CancelCauseFunc
	work   *sync.WaitGroup
}

var _ provider.InstanceGroup = (*InstanceGroup)(nil)

// Init checks the configuration, and takes up what the last process of the plugin left.
func (g *InstanceGroup) Init(ctx context.Context, logger hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	var err error
	if g.fleet, err = g.Config.fleet(settings); err != nil {
		return provider.ProviderInfo{}, err
	}
	g.log = logger.With("group", g.fleet.name)
	if g.reach == nil {
		g.reach = network{}
	}
	g.ownership = newOwnership(g.fleet.stateFile)
	g.work = &sync.WaitGroup{}
	g.ctx, g.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	owned, err := g.own()
	if err != nil {
		g.cancel(err)
		return provider.ProviderInfo{}, errors.Join(err, g.ownership.giveBack())
	}
	if !owned {
		g.log.Warn("the state_file is in use by another process: this one only looks at the hosts", "state_file", g.fleet.stateFile)
	}
	return provider.ProviderInfo{
		ID:        path.Join("static", g.fleet.name),
		MaxSize:   len(g.fleet.hosts),
		Version:   g.Version,
		BuildInfo: g.BuildInfo,
	}, nil
}

// own takes the file of claims, if no other process has it, and takes up what the last one left. It says whether
// this process has it; without it, what the other process does is all that is known.
func (g *InstanceGroup) own() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.owned {
		return true, nil
	}
	owned, err := g.ownership.take()
	if err != nil {
		return false, err
	}
	kept, err := loadClaims(g.fleet.stateFile)
	if err != nil {
		return false, err
	}
	g.uses = map[string]use{}
	for _, h := range g.fleet.hosts {
		g.uses[h.info.ID] = kept[h.info.ID]
		delete(kept, h.info.ID)
	}
	if !owned {
		return false, nil
	}
	for name, u := range kept {
		g.log.Warn("a host that was in use is not listed any more", "instance", name, "use", u)
	}
	// A file that cannot be written has to be found out before it is needed.
	if err := saveClaims(g.fleet.stateFile, g.uses); err != nil {
		return false, err
	}
	g.owned = true
	for _, h := range g.fleet.hosts {
		if g.uses[h.info.ID] == resetting {
			g.work.Go(func() { g.reset(h) })
		}
	}
	return true, nil
}

// mayChange refuses changes by a process that does not own the file of claims.
func (g *InstanceGroup) mayChange() error {
	owned, err := g.own()
	if err == nil && !owned {
		err = g.ownership.refusal()
	}
	return err
}

// Update reports the claimed hosts, and those that are being reset.
func (g *InstanceGroup) Update(_ context.Context, fn func(instance string, state provider.State)) error {
	if _, err := g.own(); err != nil {
		return err
	}
	g.mu.Lock()
	states := map[string]provider.State{}
	for name, u := range g.uses {
		switch u {
		case claimed:
			states[name] = provider.StateRunning
		case resetting:
			states[name] = provider.StateDeleting
		case released:
			states[name] = provider.StateDeleted
			g.uses[name] = idle
		}
	}
	g.mu.Unlock()
	for name, state := range states {
		fn(name, state)
	}
	return nil
}

// Increase claims idle hosts that answer. The error names those that do not.
func (g *InstanceGroup) Increase(ctx context.Context, n int) (int, error) {
	if err := g.mayChange(); err != nil {
		return 0, err
	}
	var candidates []host
	g.mu.Lock()
	for _, h := range g.fleet.hosts {
		if g.uses[h.info.ID] == idle {
			candidates = append(candidates, h)
		}
	}
	g.mu.Unlock()

	var errs []error
	chosen := map[string]use{}
	// No more hosts are looked at than are needed, in the order of the list.
	for len(chosen) < n && len(candidates) > 0 {
		batch := candidates[:min(n-len(chosen), len(candidates))]
		candidates = candidates[len(batch):]
		for i, err := range g.probe(ctx, batch) {
			if err != nil {
				errs = append(errs, err)
				continue
			}
			chosen[batch[i].info.ID] = claimed
		}
		if ctx.Err() != nil {
			break
		}
	}
	if len(chosen) < n {
		errs = append(errs, fmt.Errorf("group %q has %d of %d hosts that are idle and answer", g.fleet.name, len(chosen), n))
	}
	if len(chosen) == 0 {
		return 0, errors.Join(errs...)
	}
	if err := g.move(chosen); err != nil {
		return 0, errors.Join(append(errs, err)...)
	}
	if len(chosen) == n {
		for _, err := range errs {
			g.log.Warn("a host is passed over", "err", err)
		}
		return n, nil
	}
	return len(chosen), errors.Join(errs...)
}

// probe looks at whether hosts answer.
func (g *InstanceGroup) probe(ctx context.Context, hosts []host) []error {
	errs := make([]error, len(hosts))
	slots := make(chan struct{}, parallelProbes)
	var probes sync.WaitGroup
	for i, h := range hosts {
		probes.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			errs[i] = g.answers(ctx, h)
		})
	}
	probes.Wait()
	return errs
}

func (g *InstanceGroup) answers(ctx context.Context, h host) error {
	ctx, cancel := context.WithTimeout(ctx, g.fleet.probeTimeout)
	defer cancel()
	if err := g.reach.Probe(ctx, h.probe); err != nil {
		return fmt.Errorf("host %q does not answer at %s: %w", h.info.ID, h.probe, err)
	}
	return nil
}

// Decrease releases hosts. They are idle again when their reset command has succeeded. A host that is not
// claimed is released already.
func (g *InstanceGroup) Decrease(_ context.Context, instances []string) ([]string, error) {
	if err := g.mayChange(); err != nil {
		return nil, err
	}
	next := map[string]use{}
	var toReset []host
	g.mu.Lock()
	for _, name := range instances {
		if g.uses[name] != claimed {
			continue
		}
		if h, _ := g.host(name); h.reset != "" {
			next[name] = resetting
			toReset = append(toReset, h)
			continue
		}
		next[name] = released
	}
	g.mu.Unlock()
	if err := g.move(next); err != nil {
		return nil, err
	}
	for _, h := range toReset {
		g.work.Go(func() { g.reset(h) })
	}
	return instances, nil
}

// reset runs the reset command of a host until it succeeds.
func (g *InstanceGroup) reset(h host) {
	log := g.log.With("instance", h.info.ID)
	for pause := firstResetPause; ; pause = min(2*pause, maxResetPause) {
		started := time.Now()
		err := g.resetOnce(h)
		if err == nil {
			log.Info("host is reset", "took", time.Since(started).Round(time.Millisecond))
			break
		}
		if g.ctx.Err() != nil {
			return
		}
		log.Error("host could not be reset, it is not used until that succeeds", "err", err, "next_try_in", pause)
		select {
		case <-g.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
	if err := g.move(map[string]use{h.info.ID: released}); err != nil {
		// The host is clean; after a restart it is only reset once more.
		log.Warn("cannot write down that a host is reset", "err", err)
		g.mu.Lock()
		defer g.mu.Unlock()
		g.uses[h.info.ID] = released
	}
}

func (g *InstanceGroup) resetOnce(h host) error {
	ctx, cancel := context.WithTimeout(g.ctx, g.fleet.resetTimeout)
	defer cancel()
	return g.reach.Run(ctx, h.info, h.reset, g.fleet.external)
}

// move gives hosts another use, or changes nothing if that cannot be written down.
func (g *InstanceGroup) move(to map[string]use) error {
	if len(to) == 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	next := maps.Clone(g.uses)
	maps.Copy(next, to)
	if err := saveClaims(g.fleet.stateFile, next); err != nil {
		return err
	}
	g.uses = next
	return nil
}

// ConnectInfo returns how to reach a host.
func (g *InstanceGroup) ConnectInfo(_ context.Context, instance string) (provider.ConnectInfo, error) {
	h, err := g.host(instance)
	if err != nil {
		return provider.ConnectInfo{}, err
	}
	return h.info, nil
}

// Heartbeat looks at whether a host answers.
func (g *InstanceGroup) Heartbeat(ctx context.Context, instance string) error {
	h, err := g.host(instance)
	if err == nil {
		err = g.answers(ctx, h)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", provider.ErrInstanceUnhealthy, err)
	}
	return nil
}

func (g *InstanceGroup) host(name string) (host, error) {
	for _, h := range g.fleet.hosts {
		if h.info.ID == name {
			return h, nil
		}
	}
	return host{}, fmt.Errorf("group %q has no host %q", g.fleet.name, name)
}

// Suspend is not possible: hosts are not the plugin's to stop.
func (g *InstanceGroup) Suspend(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Resume is not possible.
func (g *InstanceGroup) Resume(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Shutdown ends resets, which the next process takes up again.
func (g *InstanceGroup) Shutdown(ctx context.Context) error {
	g.cancel(errShutdown)
	done := make(chan struct{})
	go func() {
		g.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		g.mu.Lock()
		defer g.mu.Unlock()
		g.owned = false
		return g.ownership.giveBack()
	case <-ctx.Done():
		return fmt.Errorf("waiting for resets to end: %w", context.Cause(ctx))
	}
}
