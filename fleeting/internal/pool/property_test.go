package pool

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// cloud is what the pool cannot see: the instances that really exist.
type cloud struct {
	machines map[string]*machine
	next     int
}

type machine struct {
	state    provider.State
	listedIn int // updates until it appears in the list
}

func (c *cloud) create(listedIn int) {
	c.next++
	c.machines[fmt.Sprintf("m%03d", c.next)] = &machine{state: provider.StateCreating, listedIn: listedIn}
}

// step has every machine make progress.
func (c *cloud) step() {
	for id, m := range c.machines {
		switch m.state {
		case provider.StateCreating, provider.StateResuming:
			m.state = provider.StateRunning
		case provider.StateSuspending:
			m.state = provider.StateSuspended
		case provider.StateDeleting:
			delete(c.machines, id)
		}
	}
}

func (c *cloud) list() []Report {
	var reports []Report
	for _, id := range slices.Sorted(maps.Keys(c.machines)) {
		m := c.machines[id]
		if m.listedIn--; m.listedIn < 0 {
			reports = append(reports, Report{id, m.state})
		}
	}
	return reports
}

// history drives a pool and a cloud with drawn events and checks what must hold at all times.
type history struct {
	*rapid.T

	cfg     Config
	pool    *Pool
	cloud   *cloud
	now     time.Time
	hostile bool // the cloud has a life of its own and its reports are not to be trusted

	deleteAsked, suspendAsked, resumeAsked map[string]bool

	live    map[string]*Instance // as the events tell
	updates int
}

func newHistory(t *rapid.T, hostile bool) *history {
	cfg := Config{
		MaxSize:       rapid.IntRange(1, 6).Draw(t, "max size"),
		DeletionRetry: time.Minute,
		RetryStep:     2 * time.Second,
	}
	h := &history{
		T: t, cfg: cfg, pool: New(cfg), hostile: hostile,
		cloud:       &cloud{machines: map[string]*machine{}},
		now:         time.Unix(1_700_000_000, 0),
		deleteAsked: map[string]bool{}, suspendAsked: map[string]bool{}, resumeAsked: map[string]bool{},
		live: map[string]*Instance{},
	}
	for range rapid.IntRange(0, cfg.MaxSize).Draw(t, "preexisting") {
		h.cloud.create(0)
	}
	return h
}

func (h *history) chance(label string, percent int) bool {
	return rapid.IntRange(0, 99).Draw(h.T, label) < percent
}

// anyID draws the id of a machine, or of none.
func (h *history) anyID() string {
	ids := append(slices.Sorted(maps.Keys(h.cloud.machines)), "nobody")
	return rapid.SampledFrom(ids).Draw(h.T, "id")
}

// wish has a user ask for something.
func (h *history) wish() {
	switch rapid.IntRange(0, 3).Draw(h.T, "wish") {
	case 0:
		h.pool.Request(h.now, rapid.IntRange(0, 4).Draw(h.T, "requested"))
	case 1:
		id := h.anyID()
		h.deleteAsked[id] = true
		h.pool.Delete(h.now, id)
	case 2:
		id := h.anyID()
		h.suspendAsked[id] = true
		h.pool.Suspend(id)
	case 3:
		id := h.anyID()
		h.resumeAsked[id] = true
		h.pool.Resume(h.now, id)
	}
}

// trouble has the cloud do what nobody asked for.
func (h *history) trouble() {
	switch rapid.IntRange(0, 3).Draw(h.T, "trouble") {
	case 0:
		delete(h.cloud.machines, h.anyID())
	case 1:
		if h.hostile {
			h.cloud.create(0)
		}
	case 2:
		if m := h.cloud.machines[h.anyID()]; m != nil && h.hostile {
			m.state = rapid.SampledFrom([]provider.State{
				provider.StateCreating, provider.StateRunning, provider.StateDeleting, provider.StateDeleted,
				provider.StateTimeout, provider.StateSuspending, provider.StateSuspended, provider.StateResuming, "odd",
			}).Draw(h.T, "state")
		}
	case 3:
		h.now = h.now.Add(time.Duration(rapid.IntRange(0, 90).Draw(h.T, "idle seconds")) * time.Second)
	}
}

// reports are what an update says, with the errors of a hostile cloud.
func (h *history) reports() []Report {
	reports := h.cloud.list()
	if !h.hostile {
		return reports
	}
	var seen []Report
	for _, r := range reports {
		switch {
		case h.chance("omitted", 20):
		case h.chance("twice", 10):
			seen = append(seen, r, r)
		default:
			seen = append(seen, r)
		}
	}
	if h.chance("no id", 5) {
		seen = append(seen, Report{State: provider.StateRunning})
	}
	return seen
}

// observe is the first half of a cycle.
func (h *history) observe(reports []Report) {
	before := h.pool.Counts()
	outstanding := before.Pending + before.Unanswered
	o := h.pool.Observe(h.now, reports)
	h.updates++
	for _, in := range o.Discovered {
		if h.live[in.ID] != nil {
			h.Fatalf("%s is discovered twice", in.ID)
		}
		h.live[in.ID] = in
		want := Unexpected
		if outstanding > 0 {
			outstanding--
			want = Requested
		}
		if h.updates == 1 {
			want = Preexisted
		}
		if in.Cause != want {
			h.Fatalf("%s is found in update %d with cause %v, not %v", in.ID, h.updates, in.Cause, want)
		}
	}
	for _, in := range o.Changed {
		if h.live[in.ID] != in || in.Gone() {
			h.Fatalf("%s changes and is not alive", in.ID)
		}
	}
	for _, in := range o.Gone {
		if h.live[in.ID] != in || !in.Gone() {
			h.Fatalf("%s ends and was not alive", in.ID)
		}
		delete(h.live, in.ID)
	}
	if len(h.live) != len(h.pool.Instances()) {
		h.Fatalf("the events tell of %d instances, the pool has %d", len(h.live), len(h.pool.Instances()))
	}
}

// act is the second half of a cycle: it carries out the plan, more or less.
func (h *history) act(reliable bool) {
	plan := h.pool.Plan(h.now)
	h.check(plan)
	answer := func(ids []string) []string {
		if reliable {
			return ids
		}
		return slices.DeleteFunc(slices.Clone(ids), func(string) bool { return h.chance("refused", 30) })
	}
	for _, batch := range plan.Decrease {
		ids := idsOf(batch)
		accepted := answer(ids)
		h.move(accepted, provider.StateDeleting, reliable)
		h.pool.Decreased(h.now, ids, accepted)
	}
	if plan.Increase > 0 {
		h.increase(plan.Increase, reliable)
	}
	if len(plan.Suspend) > 0 {
		ids := idsOf(plan.Suspend)
		accepted := answer(ids)
		h.move(accepted, provider.StateSuspending, reliable)
		h.pool.Suspended(h.now, ids, accepted)
	}
	if len(plan.Resume) > 0 {
		ids := idsOf(plan.Resume)
		accepted := answer(ids)
		h.move(accepted, provider.StateResuming, reliable)
		h.pool.Resumed(h.now, ids, accepted)
	}
}

// move puts machines in a state; without effect now and then, where the cloud is not reliable.
func (h *history) move(ids []string, to provider.State, reliable bool) {
	for _, id := range ids {
		if m := h.cloud.machines[id]; m != nil && (reliable || !h.chance("without effect", 10)) {
			m.state = to
		}
	}
}

func (h *history) increase(n int, reliable bool) {
	created, lost := n, false
	if !reliable {
		created = rapid.IntRange(0, n).Draw(h.T, "created")
		lost = h.chance("answer lost", 20)
	}
	for range created {
		delay := 0
		if !reliable {
			delay = rapid.IntRange(0, 3).Draw(h.T, "updates until listed")
		}
		h.cloud.create(delay)
	}
	answered := created
	if lost {
		answered = 0
	}
	h.pool.Increased(h.now, n, answered, lost)
}

// check checks a plan.
func (h *history) check(plan Plan) {
	c := h.pool.Counts()
	if plan.Increase > 0 && c.Total()+plan.Increase > h.cfg.MaxSize {
		h.Fatalf("an increase by %d on top of %+v exceeds the maximum", plan.Increase, c)
	}
	if plan.Increase+plan.Held != c.Requested {
		h.Fatalf("%d increased and %d held of %d requested", plan.Increase, plan.Held, c.Requested)
	}
	if !h.hostile && len(h.cloud.machines)+plan.Increase > h.cfg.MaxSize && plan.Increase > 0 {
		h.Fatalf("an increase by %d on top of %d existing machines exceeds the maximum", plan.Increase, len(h.cloud.machines))
	}
	decided := map[string]bool{}
	once := func(what string, decisions []Decision, asked map[string]bool) {
		for _, d := range decisions {
			if !asked[d.ID] || decided[d.ID] || d.Reason == "" {
				h.Fatalf("%s of %s (%q): asked for %v, decided before %v", what, d.ID, d.Reason, asked[d.ID], decided[d.ID])
			}
			decided[d.ID] = true
		}
	}
	for _, batch := range plan.Decrease {
		once("decrease", batch, h.deleteAsked)
	}
	once("suspend", plan.Suspend, h.suspendAsked)
	once("resume", plan.Resume, h.resumeAsked)
}

func idsOf(decisions []Decision) []string {
	ids := make([]string, len(decisions))
	for i, d := range decisions {
		ids[i] = d.ID
	}
	return ids
}

// run draws a history of wishes, troubles and cycles.
func (h *history) run() {
	h.observe(h.cloud.list())
	for range rapid.IntRange(0, 30).Draw(h.T, "steps") {
		for range rapid.IntRange(0, 2).Draw(h.T, "wishes") {
			h.wish()
		}
		if h.chance("trouble", 25) {
			h.trouble()
		}
		if h.chance("progress", 70) {
			h.cloud.step()
		}
		h.now = h.now.Add(2 * time.Second)
		if h.chance("update works", 85) {
			h.observe(h.reports())
			h.act(false)
		}
	}
}

func TestNoHistoryBreaksTheRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { newHistory(t, true).run() })
}

// TestNoHistoryExceedsTheMaximum counts what really exists, which is bounded as long as the cloud makes
// nothing up and lists new instances within the time that lost answers are remembered for.
func TestNoHistoryExceedsTheMaximum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { newHistory(t, false).run() })
}

func TestEveryHistoryComesToRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t, rapid.Bool().Draw(t, "hostile"))
		h.run()
		for _, m := range h.cloud.machines {
			m.listedIn = 0
			if !known(m.state) || final(m.state) {
				m.state = provider.StateRunning
			}
		}
		// Long enough for every deletion to be repeated, request to expire and late report to settle.
		for range 25 {
			h.now = h.now.Add(time.Minute)
			h.cloud.step()
			h.observe(h.cloud.list())
			h.act(true)
		}
		for range 2 {
			h.now = h.now.Add(2 * time.Second)
			h.cloud.step()
			h.observe(h.cloud.list())
			if plan := h.pool.Plan(h.now); !plan.Empty() {
				t.Fatalf("the plan is not empty: %+v", plan)
			}
		}
		if h.pool.Expecting() {
			t.Fatalf("something is still expected: %+v", h.pool.Counts())
		}
		for id, m := range h.cloud.machines {
			in := h.pool.Get(id)
			if in == nil || in.State != m.state {
				t.Fatalf("%s is %s, the pool has %+v", id, m.state, in)
			}
			if h.deleteAsked[id] && in.DeletionWanted() {
				t.Fatalf("%s was to be deleted and still exists", id)
			}
		}
		if len(h.live) != len(h.cloud.machines) {
			t.Fatalf("%d instances are tracked, %d exist", len(h.live), len(h.cloud.machines))
		}
	})
}
