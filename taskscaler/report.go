package taskscaler

import (
	"time"

	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
	"gitlab.com/gitlab-org/fleeting/taskscaler/metrics"
)

// report is what was last logged and measured, so that only changes are.
type report struct {
	info     fleet.CapacityInfo
	required int
	held     string
	tally    fleet.Tally
	desired  int
}

// reportPlan logs and measures what a plan rests on. A plan that creates instances is logged at once,
// others once per evaluation interval: under load the figures change with every task.
func (s *scaler) reportPlan(plan fleet.Plan, tick bool, now time.Time) {
	creates := len(plan.Decisions) > 0 && plan.Decisions[len(plan.Decisions)-1].Kind == fleet.Create
	final := len(plan.Decisions) == 0 && plan.Info.CapacityPerInstance > 0
	if !creates && !final {
		return
	}
	last := &s.report

	if (creates || tick) && (plan.Info != last.info || plan.Required != last.required) {
		s.logger.Info("required scaling change", "capacity-info", plan.Info.String(), "required", plan.Required)
		last.info, last.required = plan.Info, plan.Required
	}
	if plan.Held != last.held {
		if plan.Held != "" {
			s.history.add(Event{At: now, Kind: EventHeld, Reason: plan.Held, Count: plan.Required})
			s.logger.Info("creation of instances held back", "reason", plan.Held, "required", plan.Required)
		}
		last.held = plan.Held
	}
	if final {
		s.history.measured(plan, now)
		s.measure(plan)
	}
}

func (s *scaler) measure(plan fleet.Plan) {
	last, collector, t := &s.report, s.options.collector, plan.Tally
	set := func(state string, before *int, now int) {
		if *before != now {
			*before = now
			collector.SetTasks(state, now)
		}
	}
	set(metrics.StateIdle, &last.tally.Idle, t.Idle)
	set(metrics.StatePending, &last.tally.Pending, t.Pending)
	set(metrics.StateAcquired, &last.tally.Acquired, t.Acquired)
	set(metrics.StateReserved, &last.tally.Reserved, t.Reserved)
	set(metrics.StateUnavailable, &last.tally.Unavailable, t.Unavailable)
	set(metrics.StateUnhealthy, &last.tally.Unhealthy, t.Unhealthy)
	set(metrics.StateSuspended, &last.tally.Suspended, t.Suspended)
	if desired := plan.Info.InstanceCount + plan.Required; desired != last.desired {
		last.desired = desired
		collector.SetDesiredInstances(desired)
	}
}
