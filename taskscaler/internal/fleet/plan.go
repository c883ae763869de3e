package fleet

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Plan is what is to be done now.
type Plan struct {
	// Decisions are to be carried out and applied in their order. Then there may be more to do: the
	// last plan of a sequence has none.
	Decisions []Decision

	// Tally, Info and Required are what the decisions about the number of instances rest on.
	Tally    Tally
	Info     CapacityInfo
	Required int
	// Held is why fewer instances are created than required; empty if they are not.
	Held string
}

// The reasons for which creation is held back.
const (
	heldMaximum   = "the maximum number of instances exists"
	heldThrottle  = "scale throttle"
	heldReadiness = "instances do not become ready"
	heldRequests  = "requests for instances fail"
)

// Plan decides what is to be done at a moment. The decisions use the space of buffer.
func (s *State) Plan(now time.Time, buffer []Decision) Plan {
	plan := Plan{Decisions: buffer[:0]}

	for _, in := range s.instances {
		if d, ok := s.settle(in, now); ok {
			plan.Decisions = append(plan.Decisions, d)
		}
	}
	if len(plan.Decisions) > 0 || s.stopping {
		return plan
	}
	if plan.Decisions = s.place(plan.Decisions); len(plan.Decisions) > 0 {
		return plan
	}

	plan.Tally = s.Tally(now)
	plan.Info = s.capacityInfo(plan.Tally)
	plan.Required = plan.Info.RequiredInstances()
	if plan.Required > 0 {
		s.grow(&plan, now)
	} else {
		s.shrink(&plan, now)
	}
	return plan
}

// settle decides about one instance by itself.
func (s *State) settle(in *Instance, now time.Time) (Decision, bool) {
	if s.stopping {
		return s.wind(in)
	}
	if !in.lost {
		if reason := s.lossOf(in); reason != "" {
			return Decision{Kind: Lose, Instance: in, Reason: reason}, true
		}
	}
	if in.Gone() {
		return Decision{Kind: Forget, Instance: in}, in.held() == 0
	}
	if in.state == provider.StateDeleting || in.deleting {
		return Decision{}, false
	}

	if in.removal == "" {
		if reason := s.removalOf(in); reason != "" {
			return Decision{Kind: Mark, Instance: in, Reason: reason}, true
		}
	}
	running := in.state == provider.StateRunning
	switch {
	case in.removal != "" && in.held() == 0 && in.state != provider.StateSuspending:
		return Decision{Kind: Delete, Instance: in, Reason: in.removal}, true
	case running && in.phase == found && in.removal == "":
		return Decision{Kind: Prepare, Instance: in}, true
	case running && in.phase == ready && in.failures > 0 && in.removal == "" && !in.checking && !now.Before(in.nextCheck):
		return Decision{Kind: Check, Instance: in}, true
	case running && in.phase != found && in.phase != preparing && !now.Before(in.nextSuspend) &&
		in.tasks[taskSuspended] > 0 && in.held() == in.tasks[taskSuspended]:
		return Decision{Kind: Sleep, Instance: in, Reason: "all tasks are suspended"}, true
	}
	return Decision{}, false
}

// wind follows what becomes of an instance after Stop.
func (s *State) wind(in *Instance) (Decision, bool) {
	if !in.Gone() {
		return Decision{}, false
	}
	if !in.lost && in.tasks[taskActive] > 0 {
		return Decision{Kind: Lose, Instance: in, Reason: lossVanished}, true
	}
	return Decision{Kind: Forget, Instance: in}, in.tasks[taskActive] == 0
}

// lossOf tells why the instance must be taken for lost; empty if it need not be.
func (s *State) lossOf(in *Instance) string {
	asleep := in.state == provider.StateSuspending || in.state == provider.StateSuspended
	switch {
	case in.deleting:
		return ""
	case in.Gone():
		return lossVanished
	case in.state == provider.StateDeleting:
		return lossDeletion
	case in.disconnected != "":
		return lossReported + in.disconnected
	case asleep && !in.suspending && (in.inUse() > 0 || in.phase != found && in.suspended() == 0):
		return lossSuspended
	}
	return ""
}

// removalOf tells why the instance must be removed; empty if it need not be.
func (s *State) removalOf(in *Instance) string {
	switch {
	case in.lost:
		return in.loss
	case in.oldRemoval != "" && (in.inUse() == 0 || in.phase == ready || in.phase == unfit):
		// If it has tasks of the last process, its preparation is what releases them.
		return strings.TrimSuffix(in.oldRemoval, reasonBeforeStop) + reasonBeforeStop
	case in.returned:
		return ReasonReturned
	case in.drained:
		return ReasonDrained
	case in.phase == unfit:
		return ReasonUnfit
	case in.failures >= s.config.FailureThreshold:
		return ReasonUnhealthy
	case in.held() > 0 || in.phase != ready:
		return ""
	case in.suspending:
		return ReasonAbandoned
	case s.usesLeft(in) == 0:
		return ReasonUsedUp
	}
	return ""
}

// place puts waiting tasks on instances: on the fullest first, so that the others can go.
func (s *State) place(decisions []Decision) []Decision {
	waiting := s.queue
	if len(waiting) == 0 {
		return decisions
	}
	// Each of them takes a task at least, so there is no use for more of them than tasks.
	var best []*Instance
	for _, in := range s.instances {
		if !s.accepts(in) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, in, func(other, in *Instance) int {
			if preferred(in, other) {
				return 1
			}
			return -1
		})
		if at < len(waiting) {
			best = slices.Insert(best[:min(len(best), len(waiting)-1)], at, in)
		}
	}

	for _, in := range best {
		for range min(s.usable(in), len(waiting)) {
			decisions = append(decisions, Decision{Kind: Place, Instance: in, Task: waiting[0]})
			waiting = waiting[1:]
		}
	}
	return decisions
}

// preferred tells whether a task is rather put on a than on b.
func preferred(a, b *Instance) bool {
	return cmp.Or(
		cmp.Compare(a.inUse(), b.inUse()),
		cmp.Compare(a.used, b.used),
		a.idleSince.Compare(b.idleSince),
	) > 0
}

// grow creates instances, as far as nothing holds that back.
func (s *State) grow(plan *Plan, now time.Time) {
	n := plan.Required
	limit := func(most int, reason string) {
		if most < n {
			n, plan.Held = max(0, most), reason
		}
	}

	limit(s.room(plan.Tally), heldMaximum)
	if now.Before(s.requests.until) {
		limit(0, heldRequests)
	}
	if now.Before(s.readiness.until) {
		limit(0, heldReadiness)
	}
	if s.readiness.failures > 0 {
		// Every wave of failures halves what is tried at the same time, down to one instance: a broken
		// image costs twice the demand and then one instance per delay.
		trials := plan.Tally.trials
		wanted := min(n, math.MaxInt-trials) + trials
		limit(max(1, wanted>>min(s.readiness.failures, 62))-trials, heldReadiness)
	}
	if s.config.Throttle != nil {
		limit(int(s.config.Throttle.TokensAt(now)), heldThrottle)
	}

	if n > 0 {
		plan.Decisions = append(plan.Decisions, Decision{Kind: Create, Count: n, Reason: s.shortage(plan.Info)})
	}
}

func (s *State) shortage(info CapacityInfo) string {
	return fmt.Sprintf("%d tasks waiting, %d acquired, idle target %d", info.Pending, info.Acquired, info.IdleTarget())
}

// shrink marks idle instances for removal, the longest idle first.
func (s *State) shrink(plan *Plan, now time.Time) {
	// The required difference divides by whole instances. An instance whose uses are nearly spent
	// provides less than that, so slots are compared.
	kept := max(plan.Info.IdleTarget(), plan.Tally.Reserved)
	surplus := plan.Tally.provided() - plan.Tally.Pending - kept
	// Some of them are not ready yet. What is idle must stay so until they are.
	idle := plan.Tally.Idle - kept

	var candidates []*Instance
	for _, in := range s.instances {
		if surplus > 0 && s.removable(in) && now.Sub(in.idleSince) >= s.policy.IdleTime {
			candidates = append(candidates, in)
		}
	}
	slices.SortStableFunc(candidates, func(a, b *Instance) int {
		return cmp.Or(a.idleSince.Compare(b.idleSince), cmp.Compare(b.used, a.used))
	})
	for _, in := range candidates {
		usable := s.usable(in)
		usableNow := usable
		if in.failures > 0 {
			usableNow = 0
		}
		if usable > surplus || usableNow > idle {
			continue
		}
		surplus -= usable
		idle -= usableNow
		plan.Decisions = append(plan.Decisions, Decision{Kind: Mark, Instance: in, Reason: ReasonIdle})
	}
}

// removable tells whether an instance could be removed if it were not needed.
func (s *State) removable(in *Instance) bool {
	return in.state == provider.StateRunning && in.phase == ready && in.held() == 0 &&
		in.removal == "" && !in.deleting && !in.lost && !in.suspending
}
