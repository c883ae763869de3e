package machines

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Memory is a set of machines that are nothing but their names: they run at once and are gone at once. It is
// safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	made  int
	alive []Machine
	keys  map[string][]string
}

// Launch makes a machine that runs.
func (m *Memory) Launch(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made++
	id := fmt.Sprintf("machine-%05d", m.made)
	m.alive = append(m.alive, Machine{
		ID: id, State: Running, Address: fmt.Sprintf("192.0.%d.%d", 2+m.made/250, 1+m.made%250),
	})
	return id, nil
}

// Terminate removes a machine.
func (m *Memory) Terminate(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alive = slices.DeleteFunc(m.alive, func(one Machine) bool { return one.ID == id })
	return nil
}

// List returns the machines in the order of their ids.
func (m *Memory) List(context.Context) ([]Machine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.alive), nil
}

// Authorize remembers who may log in.
func (m *Memory) Authorize(_ context.Context, id, user, authorizedKey string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.ContainsFunc(m.alive, func(one Machine) bool { return one.ID == id }) {
		return fmt.Errorf("there is no machine %q", id)
	}
	if m.keys == nil {
		m.keys = map[string][]string{}
	}
	m.keys[id+" "+user] = append(m.keys[id+" "+user], strings.TrimSpace(authorizedKey))
	return nil
}

// Keys are those that may log in on a machine as a user.
func (m *Memory) Keys(id, user string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.keys[id+" "+user])
}
