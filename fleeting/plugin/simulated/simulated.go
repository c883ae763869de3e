// Package simulated is a cloud in memory, for tests of scale and of behaviour over time. New(Config)
// returns a *Group, which is a provider.InstanceGroup: instances boot and end after configured times,
// calls take time, are limited in rate, and fail at configured rates. It reads the time with time.Now,
// so that it runs in the fake time of testing/synctest, and draws its chances from a seeded source, so
// that a run can be repeated. Group.Stats tells what happened, Group.Instances what exists, and
// Group.Vanish takes an instance away. It is not for production; all methods are safe for concurrent
// use.
package simulated

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Config says how the cloud behaves. The zero value is a perfect one: everything succeeds at once.
type Config struct {
	// Name is part of the group's id.
	Name string
	// MaxSize is the maximum number of instances; 0 sets none.
	MaxSize int
	// Capabilities are declared by Init.
	Capabilities []provider.Capability
	// Preexisting is the number of instances that run from the start.
	Preexisting int

	// BootTime is how long an instance is creating or resuming; BootJitter is the most that is added
	// to it at random.
	BootTime, BootJitter time.Duration
	// StopTime is how long an instance is deleting or suspending.
	StopTime time.Duration
	// ListDelay is how long a new instance is missing from updates.
	ListDelay time.Duration
	// Latency is how long each call takes.
	Latency time.Duration
	// RateLimit is the number of calls per second beyond which calls fail; 0 sets none. Unused calls
	// of up to a second are saved up.
	RateLimit float64
	// BlockingIncrease has Increase return only when the instances have booted.
	BlockingIncrease bool

	// The rates are the chances, between 0 and 1, of: a call failing with nothing done; Increase
	// losing its answer with the instances created; an instance failing to boot, which then is
	// creating for ever; an instance failing to boot, which then is gone; a heartbeat failing.
	CallFailureRate, LostAnswerRate, StuckBootRate, FailedBootRate, HeartbeatFailureRate float64

	// Seed makes the chances repeatable.
	Seed uint64
}

// Stats counts what happened so far.
type Stats struct {
	// Created and Deleted are instances.
	Created, Deleted int
	// Peak is the highest number of instances that existed together, in any state.
	Peak int
	// Calls counts calls by method; Failed those of them that failed, RateLimited those that failed
	// because of the rate limit.
	Calls               map[string]int
	Failed, RateLimited int
}

// Instance is one instance.
type Instance struct {
	ID        string
	State     provider.State
	CreatedAt time.Time
}

// Group is the simulated cloud's instance group.
type Group struct {
	cfg Config

	mu        sync.Mutex
	random    *rand.Rand
	settings  provider.Settings
	instances map[string]*instance
	next      int
	stats     Stats
	tokens    float64
	refilled  time.Time
}

// instance is in state until its time is up, and in the following state from then on.
type instance struct {
	id       string
	number   int
	state    provider.State
	then     provider.State
	at       time.Time // of the change; zero for never
	created  time.Time
	listedAt time.Time
}

var _ provider.InstanceGroup = (*Group)(nil)

// New returns a cloud.
func New(cfg Config) *Group {
	g := &Group{
		cfg:       cfg,
		random:    rand.New(rand.NewPCG(cfg.Seed, 0)),
		instances: map[string]*instance{},
		stats:     Stats{Calls: map[string]int{}},
		tokens:    math.Max(1, cfg.RateLimit),
		refilled:  time.Now(),
	}
	for range cfg.Preexisting {
		g.create(time.Now(), provider.StateRunning, provider.StateRunning, time.Time{}).listedAt = time.Time{}
	}
	return g
}

// Stats returns what happened so far.
func (g *Group) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	stats := g.stats
	stats.Calls = make(map[string]int, len(g.stats.Calls))
	for method, n := range g.stats.Calls {
		stats.Calls[method] = n
	}
	return stats
}

// Instances returns what exists, in order of creation.
func (g *Group) Instances() []Instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.advance(time.Now())
	list := make([]Instance, 0, len(g.instances))
	for _, i := range g.sorted() {
		list = append(list, Instance{ID: i.id, State: i.state, CreatedAt: i.created})
	}
	return list
}

// Vanish takes an instance away, as the end of a spot instance does.
func (g *Group) Vanish(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.instances, id)
}

// sorted returns the instances in order of creation; g.mu must be held.
func (g *Group) sorted() []*instance {
	list := make([]*instance, 0, len(g.instances))
	for _, i := range g.instances {
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b *instance) int { return cmp.Compare(a.number, b.number) })
	return list
}

// advance lets the time pass; g.mu must be held.
func (g *Group) advance(now time.Time) {
	for id, i := range g.instances {
		if i.at.IsZero() || now.Before(i.at) {
			continue
		}
		i.state, i.at = i.then, time.Time{}
		if i.state == provider.StateDeleted {
			delete(g.instances, id)
			g.stats.Deleted++
		}
	}
}
