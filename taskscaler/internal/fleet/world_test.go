package fleet

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// world is a group of instances, a provisioner and the owners of tasks, driven by random numbers. It
// keeps its own account of who holds what, to which it compares the plans.
type world struct {
	t      *rapid.T
	state  *State
	config Config
	policy Policy
	now    time.Time

	machines []*machine
	// asked is the number of instances that were asked for and have not been discovered.
	asked    int
	machineN int
	taskN    int

	owners   map[string]*owner
	reserved []string
	trace    []line
	created  int
}

func newWorld(t *rapid.T, dice *dice) *world {
	w := &world{
		t:      t,
		now:    time.Unix(1_000_000, 0),
		owners: map[string]*owner{},
	}
	w.config = Config{
		CapacityPerInstance:   1 + dice.n(4),
		MaxUseCount:           dice.n(4),
		MaxInstances:          1 + dice.n(6),
		FailureThreshold:      1 + dice.n(3),
		Reservations:          true,
		ReservationThrottling: dice.n(2) == 0,
	}
	if dice.n(4) == 0 {
		w.config.MaxInstances = 0
	}
	if dice.n(2) == 0 {
		w.config.Throttle = rate.NewLimiter(rate.Limit(1+dice.n(3)), 1+dice.n(4))
	}
	w.policy = randomPolicy(dice)
	w.state = New(w.config)
	w.state.SetPolicy(w.policy)
	return w
}

func randomPolicy(dice *dice) Policy {
	p := Policy{
		IdleCount:  dice.n(5),
		IdleTime:   time.Duration(dice.n(4)) * 10 * time.Second,
		Preemptive: dice.n(2) == 0,
	}
	if dice.n(3) == 0 {
		p.ScaleFactor = float64(dice.n(8)) / 4
		p.ScaleFactorLimit = dice.n(4)
	}
	return p
}

// line of the trace, put into words only when it is needed.
type line struct {
	format string
	args   []any
}

func (w *world) log(format string, args ...any) {
	w.trace = append(w.trace, line{format, args})
}

func (w *world) fail(format string, args ...any) {
	for _, l := range w.trace {
		w.t.Logf(l.format, l.args...)
	}
	w.t.Fatalf(format, args...)
}

// deliver tells the scaler what the provisioner knows.
func (w *world) deliver() {
	existing := w.asked
	for _, m := range w.machines {
		if !m.gone() {
			existing++
		}
	}
	for _, m := range w.machines {
		if m.in == nil {
			m.in = w.state.Discover(m.id, m.cause, m.state, nil, w.now)
			continue
		}
		w.state.Observe(m.in, m.state, w.now)
	}
	w.machines = slices.DeleteFunc(w.machines, (*machine).gone)
	w.state.SetProvisioned(w.asked, existing, w.now)
	w.settle()
}

// settle carries out plans until there is nothing left to do.
func (w *world) settle() {
	for round := 0; ; round++ {
		plan := w.state.Plan(w.now, nil)
		if len(plan.Decisions) == 0 {
			break
		}
		if round > 8 {
			w.fail("plans do not come to an end: %v", plan.Decisions)
		}
		for _, d := range plan.Decisions {
			w.carryOut(d, plan)
		}
	}
	w.audit()
}

func (w *world) machineOf(in *Instance) *machine {
	for _, m := range w.machines {
		if m.in == in {
			return m
		}
	}
	return nil
}

func (w *world) ownersOn(in *Instance) (list []*owner) {
	for _, o := range w.owners {
		if o.task != nil && o.machine != nil && o.machine.in == in && o.phase != "waiting" {
			list = append(list, o)
		}
	}
	return list
}

func (w *world) carryOut(d Decision, plan Plan) {
	if d.Instance != nil {
		w.log("  %s %s: %s", d.Kind, d.Instance.id, d.Reason)
	}
	m := w.machineOf(d.Instance)
	on := w.ownersOn(d.Instance)
	switch d.Kind {
	case Lose:
		if m != nil && m.delete {
			w.fail("instance %s is lost, and we deleted it", d.Instance.id)
		}
		for _, o := range on {
			o.lost = o.phase != "offered"
			if !o.lost {
				o.phase = "waiting"
			}
			if o.phase == "active" && d.Instance.phase == found {
				delete(w.owners, o.key) // it died with the last process
			}
		}
	case Forget:
		for _, o := range on {
			w.fail("instance %s is forgotten with task %s on it", d.Instance.id, o.key)
		}
	case Delete:
		if len(on) > 0 {
			w.fail("instance %s is deleted with task %s (%s) on it", d.Instance.id, on[0].key, on[0].phase)
		}
		m.delete = true
	case Mark:
		if d.Reason == ReasonIdle {
			if len(on) > 0 {
				w.fail("instance %s is idle with task %s on it", d.Instance.id, on[0].key)
			}
			if idle := w.now.Sub(d.Instance.idleSince); idle < w.policy.IdleTime {
				w.fail("instance %s is removed after %s, idle time is %s", d.Instance.id, idle, w.policy.IdleTime)
			}
			w.checkIdleAfter(d.Instance)
		}
	case Prepare:
		m.preparing = true
	case Check:
		m.checking = true
	case Sleep:
		for _, o := range on {
			if o.phase != "suspended" {
				w.fail("instance %s is suspended with task %s (%s) on it", d.Instance.id, o.key, o.phase)
			}
		}
		m.sleep = true
	case Place:
		w.place(d, m)
		return
	case Create:
		w.create(d.Count, plan)
	}
	w.state.Apply(d, w.now)
}

func (w *world) place(d Decision, m *machine) {
	o := w.owners[d.Task.key]
	if o == nil || o.phase != "waiting" {
		w.fail("task %s is placed and does not wait", d.Task.key)
	}
	if m == nil || m.state != provider.StateRunning || m.delete || m.sleep && m.in.suspending {
		w.fail("task %s is placed on instance %s, which does not run", d.Task.key, d.Instance.id)
	}
	if d.Instance.failures > 0 || d.Instance.phase != ready || d.Instance.removal != "" {
		w.fail("task %s is placed on instance %s, which is not fit", d.Task.key, d.Instance.id)
	}
	w.state.Apply(d, w.now)
	o.phase, o.task, o.offer, o.machine, o.slot = "offered", d.Task, d.Task.Placement(), m, d.Task.Slot()
	if o.slot >= w.state.CapacityPerInstance() {
		w.fail("task %s got slot %d", o.key, o.slot)
	}
	pending := 0
	for _, other := range w.ownersOn(d.Instance) {
		if other != o && other.slot == o.slot {
			w.fail("slot %d of instance %s has two owners", o.slot, d.Instance.id)
		}
		if other.phase == "offered" {
			pending++
		}
	}
	if limit := w.config.MaxUseCount; limit > 0 && m.uses+pending > limit {
		w.fail("instance %s gets use %d of %d", d.Instance.id, m.uses+pending, limit)
	}
}

func (w *world) create(n int, plan Plan) {
	existing := w.asked
	useful := w.asked * w.state.CapacityPerInstance()
	for _, m := range w.machines {
		if !m.gone() {
			existing++
		}
		in := m.in
		if in.Gone() || in.deleting || in.lost || in.removal != "" || in.suspending ||
			in.state == provider.StateDeleting || in.state == provider.StateSuspended || in.state == provider.StateSuspending {
			continue
		}
		useful += w.state.usable(in)
	}
	if limit := w.config.MaxInstances; limit > 0 && existing+n > limit {
		w.fail("%d instances are created when %d of %d exist", n, existing, limit)
	}

	waiting, idle := w.count("waiting"), w.idleTarget()
	missing := waiting + idle - useful
	if needed := (missing + w.state.CapacityPerInstance() - 1) / w.state.CapacityPerInstance(); n > needed {
		w.fail("%d instances are created, %d are needed (%d waiting, idle target %d, %d useful slots; %s)", n, needed, waiting, idle, useful, plan.Info)
	}
	w.log("  create %d", n)
	w.asked += n
	w.created += n
}

func (w *world) count(phases ...string) (n int) {
	for _, o := range w.owners {
		if slices.Contains(phases, o.phase) {
			n++
		}
	}
	return n
}

func (w *world) idleTarget() int {
	scaled := 0
	if factor := w.policy.ScaleFactor; factor > 0 {
		scaled = int(math.Ceil(factor * float64(w.count("offered", "active"))))
		if limit := w.policy.ScaleFactorLimit; limit > 0 {
			scaled = min(scaled, limit)
		}
	}
	return max(w.policy.IdleCount, scaled)
}

// checkIdleAfter checks that the removal of an idle instance leaves what is needed.
func (w *world) checkIdleAfter(removed *Instance) {
	idle := 0
	for _, in := range w.state.Instances() {
		if in != removed && w.state.accepts(in) {
			idle += w.state.usable(in)
		}
	}
	if needed := max(w.idleTarget(), len(w.state.reservations)); idle < needed && removed.failures == 0 {
		w.fail("instance %s is removed as idle, %d idle slots are left, %d needed", removed.id, idle, needed)
	}
	if w.count("waiting") > 0 && removed.failures == 0 {
		w.fail("instance %s is removed as idle while tasks wait", removed.id)
	}
}

// audit compares the state with the account of the owners.
func (w *world) audit() {
	for key, o := range w.owners {
		t := w.state.Task(key)
		if t == nil {
			w.fail("task %s (%s) is unknown to the state", key, o.phase)
		}
		switch o.phase {
		case "active", "suspended", "resuming":
			if t != o.task || t.Instance() != o.machine.in || t.Slot() != o.slot {
				w.fail("task %s moved from slot %d of %s", key, o.slot, o.machine.id)
			}
		case "offered":
			if t.phase != taskChecking || t.Slot() != o.slot {
				w.fail("the offer to task %s was changed", key)
			}
		}
		if o.phase == "active" && o.machine.gone() && !o.lost {
			w.fail("the owner of task %s does not know that instance %s is gone", key, o.machine.id)
		}
	}
	if len(w.state.tasks) != len(w.owners) {
		w.fail("%d tasks, %d owners", len(w.state.tasks), len(w.owners))
	}
	idle := 0
	for _, in := range w.state.Instances() {
		if w.state.accepts(in) {
			idle += w.state.usable(in)
		}
		offered := in.tasks[taskChecking]
		if m := w.machineOf(in); m != nil && in.used != m.uses+offered {
			w.fail("instance %s counts %d uses, %d were handed out and %d offered", in.id, in.used, m.uses, offered)
		}
	}
	t := w.state.Tally(w.now)
	if w.state.potential(t) < 0 {
		w.fail("negative potential: %+v", t)
	}
	phases := map[string]int{}
	for _, o := range w.owners {
		phases[o.phase]++
	}
	if t.Idle != idle || t.Pending != phases["waiting"] || t.Acquired != phases["offered"]+phases["active"] ||
		t.Suspended != phases["suspended"]+phases["resuming"] {
		w.fail("%d idle slots and tasks %v are counted as %+v", idle, w.owners, t)
	}
	slots := t.Idle + t.Acquired + t.Unavailable + t.Unhealthy + t.Unready + t.coming + t.unreachable
	if slots != t.instances*w.state.CapacityPerInstance() {
		w.fail("%d instances of %d slots are counted as %+v", t.instances, w.state.CapacityPerInstance(), t)
	}
}

var errTest = errors.New("it failed")

func (w *world) some(d *dice, phases ...string) (*owner, bool) {
	var list []*owner
	for _, o := range w.owners {
		if slices.Contains(phases, o.phase) {
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b *owner) int { return strings.Compare(a.key, b.key) })
	return pick(d, list)
}

func (w *world) someMachine(d *dice, ok func(*machine) bool) (*machine, bool) {
	var list []*machine
	for _, m := range w.machines {
		if ok(m) {
			list = append(list, m)
		}
	}
	return pick(d, list)
}
