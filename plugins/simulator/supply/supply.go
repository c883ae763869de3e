// Package supply is where a simulated cloud has its machines from, with what tests turn to make that harder: how
// many are in stock, how late they appear in lists, when one of them fails. It counts calls too.
//
// It guarantees that all of that changes between two calls of the cloud and never within one, for which the
// cloud and its supply share a lock.
//
// The simulated clouds import it. No plugin does.
package supply

import (
	"context"
	"sync"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

// Machines is what instances are made of.
type Machines interface {
	Launch(ctx context.Context) (id string, err error)
	Terminate(ctx context.Context, id string) error
	List(ctx context.Context) ([]machines.Machine, error)
	Authorize(ctx context.Context, id, user, authorizedKey string) error
	SetPassword(ctx context.Context, id, user, password string) error
}

var (
	_ Machines = (*machines.Set)(nil)
	_ Machines = (*machines.Memory)(nil)
)

// Supply is the part that all clouds have, to be embedded. What tests call takes the lock: Calls, SetStock,
// HideNew, Kill. Everything else is for the cloud, which holds it.
type Supply struct {
	// Mu guards the supply and the cloud that has it.
	Mu sync.Mutex

	machines  Machines
	machineOf func(instance string) string
	// stock is how many more machines there are; negative is any number.
	stock int
	// late is how late those appear that are launched from now on.
	late  Late
	calls map[string]int
}

// Open makes the supply ready, once, before the cloud is used. machineOf returns the machine of an instance, or
// nothing if there is none; it is called with the lock held.
func (s *Supply) Open(m Machines, machineOf func(instance string) string) {
	s.machines, s.machineOf, s.stock, s.calls = m, machineOf, -1, map[string]int{}
}

// Calls is how often a call was counted under a name.
func (s *Supply) Calls(name string) int {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.calls[name]
}

// SetStock bounds how many more machines can be launched; negative is any number.
func (s *Supply) SetStock(n int) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.stock = n
}

// HideNew makes instances that are made from now on appear late: only after so many lists.
func (s *Supply) HideNew(lists int) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.late = Late{lists: lists}
}

// Kill ends the machine of an instance, as a failure of the hardware would.
func (s *Supply) Kill(ctx context.Context, instance string) error {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if machine := s.machineOf(instance); machine != "" {
		return s.machines.Terminate(ctx, machine)
	}
	return nil
}

// Count counts a call.
func (s *Supply) Count(name string) { s.calls[name]++ }

// InStock says whether another machine can be launched.
func (s *Supply) InStock() bool { return s.stock != 0 }

// Launch takes a machine out of the stock.
func (s *Supply) Launch(ctx context.Context) (string, error) {
	id, err := s.machines.Launch(ctx)
	if err == nil && s.stock > 0 {
		s.stock--
	}
	return id, err
}

// Machines are those that there are, by their ids.
func (s *Supply) Machines(ctx context.Context) (map[string]machines.Machine, error) {
	list, err := s.machines.List(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[string]machines.Machine{}
	for _, machine := range list {
		byID[machine.ID] = machine
	}
	return byID, nil
}

// Late is how late an instance that is made now appears.
func (s *Supply) Late() Late { return s.late }

// Late is how late an instance appears in lists. The zero value does so at once.
type Late struct {
	// lists is in how many more lists it is missing, missing whether it is in the one that was begun last.
	lists   int
	missing bool
}

// Missing says whether the instance is missing in a list, at its first page or at a later one: what is missing
// at the first is missing in all of the list.
func (l *Late) Missing(laterPage bool) bool {
	if laterPage {
		return l.missing || l.lists > 0
	}
	if l.missing = l.lists > 0; l.missing {
		l.lists--
	}
	return l.missing
}

// Find returns the first of a list that is the right one, or nil.
func Find[T any](list []*T, right func(*T) bool) *T {
	for _, one := range list {
		if right(one) {
			return one
		}
	}
	return nil
}
