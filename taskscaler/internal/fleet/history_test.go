package fleet

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// TestSafetyOverRandomHistories drives a State through random histories: owners come and go, machines
// boot, fail, vanish, come back, are suspended and deleted, the group refuses requests, policies change
// and the scaler restarts. The world checks every decision. In the end the owners go home, and the
// fleet must come to rest at the idle target, and at nothing when that is zero.
//
// The number of histories is set with the flag -rapid.checks.
func TestSafetyOverRandomHistories(t *testing.T) {
	numbers := rapid.Uint32()
	rapid.Check(t, func(t *rapid.T) {
		d := &dice{t, numbers}
		w := newWorld(t, d)
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			w.now = w.now.Add(time.Duration(d.n(20)) * 250 * time.Millisecond)
			w.step(d)
			w.deliver()
		}
		w.comesToRest()
	})
}

// step lets something happen; where that is not possible at the moment, something else.
func (w *world) step(d *dice) {
	for range 4 {
		var happened bool
		switch what := d.n(32); {
		case what < 12:
			happened = w.groupStep(d, what)
		case what < 26:
			happened = w.ownerStep(d, what-12)
		case what == 26:
			happened = w.misfortune(d)
		case what == 27:
			w.policy = randomPolicy(d)
			w.state.SetPolicy(w.policy)
			w.log("policy %+v", w.policy)
			happened = true
		case what == 28:
			happened = d.n(8) == 0
			if happened {
				w.restart(d.n(3) > 0)
			}
		default:
			w.now = w.now.Add(time.Duration(1+d.n(40)) * time.Second)
			happened = true
		}
		if happened {
			return
		}
	}
}

// groupStep lets the group and the functions that work on its instances make progress.
func (w *world) groupStep(d *dice, what int) bool {
	switch what {
	case 0, 1, 2, 3:
		if m, ok := w.someMachine(d, func(m *machine) bool { return m.restless() }); ok {
			w.advance(m, d.n(6) > 0)
			return true
		}
	case 4, 5, 6:
		booting := min(w.asked, 1+d.n(4))
		for range booting {
			w.asked--
			w.boot(Requested, d.n(2) == 0)
		}
		return booting > 0
	case 7, 8, 9, 10:
		if m, ok := w.someMachine(d, func(m *machine) bool { return m.preparing }); ok {
			w.prepared(m, d.n(6) > 0)
			return true
		}
	case 11:
		if m, ok := w.someMachine(d, func(m *machine) bool { return m.checking }); ok {
			m.checking = false
			w.state.Checked(m.in, []error{nil, errTest}[d.n(2)], w.now)
			return true
		}
	}
	return false
}

// ownerStep lets an owner of a task do something.
func (w *world) ownerStep(d *dice, what int) bool {
	switch what {
	case 0, 1, 2: // a task comes, announced or not
		w.taskN++
		key := fmt.Sprint("task-", w.taskN)
		if d.n(2) == 0 {
			if w.state.Reserve(key, w.now) != nil {
				return false
			}
			w.log("%s is reserved", key)
			if d.n(3) == 0 {
				w.reserved = append(w.reserved, key)
				return true
			}
		}
		w.enqueue(key)
		return true
	case 3: // an announced task comes or stays away
		if len(w.reserved) == 0 {
			return false
		}
		key := w.reserved[0]
		w.reserved = w.reserved[1:]
		if d.n(2) == 0 {
			w.enqueue(key)
			return true
		}
		w.state.Unreserve(key)
		return true
	case 4, 5, 6, 7: // the answer to an offer
		if o, ok := w.some(d, "offered"); ok {
			w.answer(o, d.n(6))
			return true
		}
	case 8: // somebody stops waiting
		if o, ok := w.some(d, "waiting", "offered"); ok && d.n(2) == 0 {
			w.log("%s stops waiting", o.key)
			if !w.state.Abandon(o.key) {
				w.fail("abandoning %s (%s) had no effect", o.key, o.phase)
			}
			delete(w.owners, o.key)
			return true
		}
	case 9, 10: // somebody finishes
		if o, ok := w.some(d, "active", "suspended", "resuming"); ok {
			w.release(o)
			return true
		}
	case 11:
		if o, ok := w.some(d, "active"); ok {
			w.log("%s is suspended", o.key)
			if err := w.state.Suspend(o.key); err == nil {
				o.phase = "suspended"
			} else if !o.lost {
				w.fail("suspending %s: %v", o.key, err)
			}
			return true
		}
	case 12:
		if o, ok := w.some(d, "suspended"); ok {
			w.log("%s begins to resume", o.key)
			if _, err := w.state.BeginResume(o.key); err == nil {
				o.phase = "resuming"
			} else {
				delete(w.owners, o.key)
			}
			return true
		}
	case 13:
		if o, ok := w.some(d, "resuming"); ok {
			w.endResume(o, d.n(3) > 0)
			return true
		}
	}
	return false
}

func (w *world) enqueue(key string) {
	w.log("%s waits", key)
	if err := w.state.Enqueue(key); err != nil {
		w.fail("enqueueing %s: %v", key, err)
	}
	w.owners[key] = &owner{key: key, phase: "waiting"}
}

func (w *world) answer(o *owner, how int) {
	if how == 0 {
		w.log("%s rejects %s", o.key, o.machine.id)
		w.state.Reject(o.key, o.offer, errTest, w.now)
		o.phase = "waiting"
		return
	}
	w.log("%s confirms %s", o.key, o.machine.id)
	if w.state.Confirm(o.key, o.offer) {
		o.phase = "active"
		o.machine.uses++
		return
	}
	o.phase = "waiting"
}

func (w *world) release(o *owner) {
	w.log("%s is released", o.key)
	if !w.state.Release(o.key, w.now) {
		w.fail("releasing %s (%s) had no effect", o.key, o.phase)
	}
	delete(w.owners, o.key)
}

func (w *world) endResume(o *owner, patient bool) {
	m := o.machine
	resumed := patient && !m.gone() && !m.delete && m.state != provider.StateDeleting
	if resumed && (m.state == provider.StateSuspended || m.state == provider.StateSuspending || m.state == provider.StateResuming) {
		m.state = provider.StateRunning
	}
	m.sleep = m.sleep && !resumed
	err := w.state.EndResume(o.key, resumed, m.state, w.now)
	w.log("%s ends to resume (%v, %s): %v", o.key, resumed, m.state, err)
	switch {
	case err == nil:
		o.phase = "active"
	case w.state.Task(o.key) == nil:
		delete(w.owners, o.key)
	default:
		o.phase = "suspended"
	}
}

func (w *world) boot(cause Origin, running bool) {
	w.machineN++
	m := &machine{id: fmt.Sprint("i-", w.machineN), state: provider.StateCreating, cause: cause}
	if running {
		m.state = provider.StateRunning
	}
	w.log("%s boots", m.id)
	w.machines = append(w.machines, m)
}

// advance lets a machine reach the next state on its way.
func (w *world) advance(m *machine, well bool) {
	before := m.state
	switch {
	case m.gone():
	case m.state == provider.StateDeleting:
		m.state = provider.StateDeleted
	case m.delete:
		m.state = provider.StateDeleting
	case m.state == provider.StateCreating, m.state == provider.StateResuming:
		m.state = provider.StateRunning
	case m.state == provider.StateRunning && m.sleep:
		m.state = provider.StateSuspending
	case m.state == provider.StateSuspending:
		m.sleep = false
		m.state = provider.StateSuspended
		if !well {
			m.state = provider.StateRunning
		}
	}
	if m.state != before {
		w.log("%s is %s", m.id, m.state)
	}
}

func (w *world) prepared(m *machine, well bool) {
	m.preparing = false
	w.log("%s is prepared: %v", m.id, well)
	if !well {
		w.state.Prepared(m.in, errTest, w.now)
		return
	}
	w.state.Prepared(m.in, nil, w.now)
}

func (w *world) misfortune(d *dice) bool {
	m, ok := w.someMachine(d, func(m *machine) bool { return true })
	switch what := d.n(8); {
	case what == 0:
		if w.asked > 0 {
			w.asked -= 1 + d.n(w.asked)
			w.log("requests are refused, %d left", w.asked)
		}
	case what == 1:
		if limit := w.config.MaxInstances; limit == 0 || len(w.machines)+w.asked < limit {
			w.boot(Unexpected, true)
		}
	case !ok:
		return false
	case what == 2:
		m.state = provider.StateTimeout
		w.log("%s vanishes", m.id)
		if limit := w.config.MaxInstances; d.n(2) == 0 && (limit == 0 || len(w.machines)+w.asked < limit) {
			w.machines = append(w.machines, &machine{id: m.id, state: provider.StateRunning, cause: Unexpected})
			w.log("and comes back")
		}
	case what == 3:
		m.state = provider.StateDeleting
		w.log("%s is being deleted by somebody", m.id)
	case what == 4:
		w.state.ReportLost(m.in, "no route")
		w.log("%s is reported lost", m.id)
	case what == 7 && !m.gone():
		w.state.Drain(m.in)
		w.log("%s is drained", m.id)
	case what == 5 && m.state == provider.StateRunning:
		m.state = provider.StateSuspended
		w.log("%s is suspended by somebody", m.id)
	case what == 6 && (m.state == provider.StateSuspended || m.state == provider.StateDeleting):
		m.state = provider.StateRunning
		w.log("%s runs again", m.id)
	default:
		return false
	}
	return true
}

// restart begins a new State. With memory it knows what a storage would have kept; tasks that were
// active are released by the preparation, as nobody works on them any more.
func (w *world) restart(memory bool) {
	w.log("restart, memory: %v", memory)
	w.asked = 0
	w.owners, w.reserved = map[string]*owner{}, nil
	old := w.machines
	w.machines = nil
	w.state = New(w.config)
	w.state.SetPolicy(w.policy)
	for _, m := range old {
		if m.gone() {
			continue
		}
		next := &machine{id: m.id, state: m.state, cause: Preexisted, uses: m.uses}
		var remembered *Memory
		if memory && m.in != nil && m.in.phase == ready && !m.in.Gone() {
			remembered = &Memory{Used: m.in.used, Removal: m.in.removal, IdleSince: m.in.idleSince}
			for _, t := range m.in.Tasks() {
				remembered.Tasks = append(remembered.Tasks, RememberedTask{Key: t.key, Slot: t.slot, Suspended: t.Suspended()})
			}
			next.uses = m.in.used
		} else {
			next.uses = 0 // nothing is known, and the preparation below decides
		}
		next.in = w.state.Discover(next.id, Preexisted, next.state, remembered, w.now)
		w.machines = append(w.machines, next)
		for _, t := range next.in.Tasks() {
			w.log("%s is remembered in phase %d on %s", t.key, t.phase, next.id)
			w.owners[t.key] = &owner{key: t.key, phase: "active", task: t, machine: next, slot: t.slot}
			if t.Suspended() {
				w.owners[t.key].phase = "suspended"
			}
		}
	}
}
