package fleet

import "time"

// comesToRest lets everything that is under way end and checks that the fleet settles.
func (w *world) comesToRest() {
	w.log("everybody goes home")
	for _, key := range w.reserved {
		w.state.Unreserve(key)
	}
	for key, o := range w.owners {
		switch o.phase {
		case "waiting", "offered":
			w.state.Abandon(key)
		default:
			w.state.Release(key, w.now)
		}
		delete(w.owners, key)
	}
	w.deliver()

	// Each round is longer than any delay; two in which nothing happens are rest.
	quiet := func() (idle int) {
		for rounds, still := 0, 0; still < 2; rounds++ {
			if rounds > 100 {
				w.fail("no rest")
			}
			happened := len(w.trace)
			w.now = w.now.Add(maxReadinessBackoff + trialPatience)
			for w.asked > 0 {
				w.asked--
				w.boot(Requested, true)
			}
			for _, m := range w.machines {
				if m.in == nil {
					continue
				}
				w.advance(m, true)
				if m.preparing {
					w.prepared(m, true)
				}
				if m.checking {
					m.checking = false
					w.state.Checked(m.in, nil, w.now)
				}
			}
			w.deliver()
			still++
			if len(w.trace) > happened {
				still = 0
			}
		}
		return w.state.Tally(w.now).Idle
	}

	idle := quiet()
	created := w.created
	for range 2 {
		w.now = w.now.Add(time.Second)
		if plan := w.state.Plan(w.now, nil); len(plan.Decisions) > 0 {
			w.fail("not at rest: %v", plan.Decisions)
		}
	}
	if w.created != created {
		w.fail("created instances at rest")
	}
	unmanaged := 0
	for _, m := range w.machines {
		if m.in.phase == found {
			unmanaged++ // suspended before the restart, and nothing is known about it
		}
	}
	if limit := w.config.MaxInstances; idle < w.policy.IdleCount && (limit == 0 || len(w.machines) < limit) {
		w.fail("at rest with %d idle slots, idle count is %d", idle, w.policy.IdleCount)
	}

	w.policy = Policy{}
	w.state.SetPolicy(w.policy)
	quiet()
	if len(w.machines) != unmanaged || len(w.state.Instances()) != unmanaged || len(w.state.tasks) != 0 || len(w.state.queue) != 0 {
		w.fail("not empty at rest: %d machines, %d of them unmanaged", len(w.machines), unmanaged)
	}
}
