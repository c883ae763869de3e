package fleet

import (
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// machine is an instance as the group and the provisioner see it.
type machine struct {
	id     string
	state  provider.State
	cause  Origin
	in     *Instance
	delete bool // the scaler asked for it
	sleep  bool // the scaler asked for it
	uses   int  // tasks that were handed out
	// preparing and checking are answers that the scaler waits for.
	preparing, checking bool
}

func (m *machine) gone() bool {
	return m.state == provider.StateDeleted || m.state == provider.StateTimeout
}

// restless tells whether the machine is on its way to another state.
func (m *machine) restless() bool {
	switch m.state {
	case provider.StateRunning, provider.StateSuspended:
		return m.delete || m.sleep && m.state == provider.StateRunning
	}
	return !m.gone()
}

// owner is what the owner of a task knows.
type owner struct {
	key     string
	phase   string // waiting, offered, active, suspended, resuming
	task    *Task
	offer   int
	machine *machine
	slot    int
	lost    bool
}

// dice turns one drawn number after the other into evenly distributed choices.
type dice struct {
	t       *rapid.T
	numbers *rapid.Generator[uint32]
}

func (d *dice) n(sides int) int {
	x := uint64(d.numbers.Draw(d.t, "dice"))
	x = (x + 0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	x ^= x >> 31
	return int((x >> 7) % uint64(sides))
}

func pick[T any](d *dice, list []T) (item T, ok bool) {
	if len(list) == 0 {
		return item, false
	}
	return list[d.n(len(list))], true
}
