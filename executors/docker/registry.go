package docker

import (
	"maps"
	"slices"
	"sync"
)

// registry knows what a job may have made on the engine, so that its end can remove it. Names are
// written down before the engine is asked: an answer may get lost. It is safe for concurrent use.
type registry struct {
	mu         sync.Mutex
	containers map[string]struct{}
	network    string
}

func newRegistry() *registry {
	return &registry{containers: map[string]struct{}{}}
}

func (r *registry) addContainer(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.containers[name] = struct{}{}
}

func (r *registry) dropContainer(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, name)
}

func (r *registry) setNetwork(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.network = name
}

func (r *registry) all() (containers []string, network string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.containers)), r.network
}
