package fleeting

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/pool"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Provisioner keeps track of a group's instances and has instances created and deleted. All methods
// are safe for concurrent use. One goroutine owns the state and makes all calls to the group but
// ConnectInfo and Heartbeat; the methods leave it a command and wake it.
type Provisioner struct {
	group provider.InstanceGroup
	info  provider.ProviderInfo
	log   hclog.Logger
	opts  options

	loop loop // owned by the goroutine

	wake        chan struct{}
	cancelCalls context.CancelCauseFunc // of the calls made before Shutdown
	shutdown    sync.Once
	ending      chan ending   // sent once, by Shutdown
	ended       chan struct{} // closed when the goroutine has ended

	mu        sync.Mutex
	requests  int // not taken over by the loop yet
	commands  []command
	capacity  Capacity
	instances []Instance
}

// Init initialises the group, takes stock of it and starts a Provisioner on it. Only the
// initialisation of the group is required to succeed; its ctx bounds this call, not the
// Provisioner's life. A nil logger discards everything. Shutdown must be called in the end.
func Init(ctx context.Context, logger hclog.Logger, group provider.InstanceGroup, opts ...Option) (*Provisioner, error) {
	if logger == nil {
		logger = hclog.NewNullLogger()
	}
	o := newOptions(opts)
	info, err := group.Init(ctx, logger, o.settings)
	if err != nil {
		return nil, fmt.Errorf("initialise instance group: %w", err)
	}
	logger.Info("plugin initialized", "version", info.Version, "build info", info.BuildInfo)

	if info.MaxSize > 0 && info.MaxSize < o.maxSize {
		logger.Warn("the group allows fewer instances than are wanted at most, and no more are made: raise the group's maximum size or lower max_instances",
			"group", info.ID, "group_max_size", info.MaxSize, "max_instances", o.maxSize)
	}
	size := maxSize(o.maxSize, info.MaxSize)
	o.collector.SetMaxInstances(size)
	p := &Provisioner{
		group:  group,
		info:   info,
		log:    logger,
		opts:   o,
		wake:   make(chan struct{}, 1),
		ending: make(chan ending, 1),
		ended:  make(chan struct{}),
	}
	p.loop = loop{
		p: p,
		pool: pool.New(pool.Config{
			MaxSize:       size,
			DeletionRetry: o.deletionRetryInterval,
			RetryStep:     o.updateIntervalWhenExpecting,
		}),
		handles: map[string]*instance{},
	}
	p.loop.start(ctx)
	return p, nil
}

// sizeCeiling is the maximum size of a group without limits. It keeps sums of sizes far from overflow.
const sizeCeiling = 1_000_000

// maxSize returns the smaller of two limits, of which one that is not positive sets none.
func maxSize(a, b int) int {
	size := sizeCeiling
	if a > 0 {
		size = min(size, a)
	}
	if b > 0 {
		size = min(size, b)
	}
	return size
}

// Request asks for n more instances; it returns at once. Instances for which there is no room wait
// until others are gone. Those which the group does not accept are forgotten.
func (p *Provisioner) Request(n int) {
	if n <= 0 {
		return
	}
	p.mu.Lock()
	p.requests += min(n, p.capacity.Max-p.requests)
	p.mu.Unlock()
	p.wakeUp()
}

// Capacity returns the number of instances by state. Instances asked for by Request are included from
// its return on.
func (p *Provisioner) Capacity() Capacity {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.capacity
	c.Requested = min(c.Requested+p.requests, c.Max)
	return c
}

// Instances returns the tracked instances in order of their discovery.
func (p *Provisioner) Instances() []Instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.instances)
}

// HasCapability tells whether the group declared a capability when it was initialised.
func (p *Provisioner) HasCapability(c provider.Capability) bool {
	return slices.Contains(p.info.Capabilities, c)
}

// Info returns what the group said of itself when it was initialised.
func (p *Provisioner) Info() provider.ProviderInfo {
	info := p.info
	info.Capabilities = slices.Clone(info.Capabilities)
	return info
}

// Shutdown stops provisioning, deletes the instances if so configured, and shuts the group down. It
// returns when that is done or, at the latest, shortly after ctx ends: the group gets a last chance to
// clean up. It may be called several times; the first call's ctx counts.
func (p *Provisioner) Shutdown(ctx context.Context) {
	p.shutdown.Do(func() {
		stop := context.AfterFunc(ctx, func() { p.cancelCalls(errEnded) })
		timer := time.AfterFunc(callGrace, func() { p.cancelCalls(errEnded) })
		p.ending <- ending{ctx: ctx, release: func() { stop(); timer.Stop() }}
	})
	select {
	case <-p.ended:
		return
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*lastCallLimit)
	defer cancel()
	select {
	case <-p.ended:
	case <-late.Done():
		p.log.Error("the instance group does not return from a call", "group", p.info.ID)
	}
}

// wakeUp has the loop begin its next cycle.
func (p *Provisioner) wakeUp() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// command is what a method of an instance asks the loop for.
type command struct {
	kind     commandKind
	instance *instance
	reply    chan<- error // of a resumption; buffered
}

type commandKind int

const (
	commandDelete commandKind = iota
	commandSuspend
	commandResume
)

// send hands a command to the loop.
func (p *Provisioner) send(c command) {
	p.mu.Lock()
	p.commands = append(p.commands, c)
	p.mu.Unlock()
	p.wakeUp()
}

// receive returns what was asked for since the last call. The requests are counted in the capacity
// from here on, so that they never seem to be gone.
func (p *Provisioner) receive() (requests int, commands []command) {
	p.mu.Lock()
	defer p.mu.Unlock()
	requests, commands = p.requests, p.commands
	p.requests, p.commands = 0, nil
	p.capacity.Requested = min(p.capacity.Requested+requests, p.capacity.Max)
	return requests, commands
}

// publish shows the loop's state to the callers of Capacity and Instances.
func (p *Provisioner) publish(c Capacity, instances []Instance) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.capacity, p.instances = c, instances
}
