package machines

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Memory is a set of machines that are nothing but their names: they run at once and are gone at once, unless they
// are held. It is safe for concurrent use.
type Memory struct {
	mu    sync.Mutex
	made  int
	held  bool
	alive []Machine
	keys  map[string][]string
}

// Hold keeps what begins from now on from coming to its end: machines boot, or are being removed, until it is
// called with false.
func (m *Memory) Hold(held bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held = held; held {
		return
	}
	m.alive = slices.DeleteFunc(m.alive, func(one Machine) bool { return one.State == Deleting })
	for i := range m.alive {
		m.alive[i].State = Running
	}
}

// Launch makes a machine.
func (m *Memory) Launch(context.Context) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.made++
	one := Machine{
		ID: fmt.Sprintf("machine-%05d", m.made), State: Running,
		Address: fmt.Sprintf("192.0.%d.%d", 2+m.made/250, 1+m.made%250),
	}
	if m.held {
		one.State = Creating
	}
	m.alive = append(m.alive, one)
	return one.ID, nil
}

// Terminate removes a machine. One that is gone already is no error.
func (m *Memory) Terminate(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.alive, func(one Machine) bool { return one.ID == id })
	switch {
	case i < 0:
	case m.held:
		m.alive[i].State = Deleting
	default:
		m.alive = slices.Delete(m.alive, i, i+1)
	}
	return nil
}

// List returns the machines in the order of their ids.
func (m *Memory) List(context.Context) ([]Machine, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.Clone(m.alive)
	for i := range list {
		if list[i].State != Running {
			list[i].Address = ""
		}
	}
	return list, nil
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
