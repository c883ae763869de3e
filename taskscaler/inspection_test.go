package taskscaler

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
)

// told lists events as "kind instance: reason".
func told(events []Event) []string {
	var list []string
	for _, e := range events {
		list = append(list, fmt.Sprintf("%s %d %s: %s", e.Kind, e.Count, e.Instance, e.Reason))
	}
	return list
}

func TestASnapshotShowsInstancesTasksAndDecisionsWithReasons(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 3)
		r := start(t, g, WithCapacityPerInstance(2), WithMaxInstances(1), WithMaxUseCount(5))
		r.schedule(Schedule{IdleCount: 1, IdleTime: time.Minute})
		a := r.acquire("a", time.Minute)
		r.wait(5 * time.Second)

		s := r.Snapshot()
		require.Equal(t, 2, s.CapacityPerInstance)
		require.Equal(t, 1, s.MaxInstances)
		require.Equal(t, 5, s.MaxUseCount)
		require.Equal(t, 1, s.IdleCount)
		require.Equal(t, time.Minute, s.IdleTime)
		require.Len(t, s.Instances, 1)
		in := s.Instances[0]
		require.Equal(t, ConditionBusy, in.Condition)
		require.Equal(t, 1, in.Used)
		require.Equal(t, []TaskStatus{{Key: "a", Slot: a.Slot()}}, in.Tasks)
		require.False(t, in.Found.IsZero())
		require.Contains(t, told(s.Events), "ready 1 i-1: ")
		require.Equal(t, EventCreate, s.Events[0].Kind)
		require.NotEmpty(t, s.Events[0].Reason)
		last := s.Samples[len(s.Samples)-1]
		require.Equal(t, Sample{At: last.At, Instances: 1, Desired: 1, Slots: 2, Busy: 1, Demand: 1}, last)

		text, err := json.Marshal(s)
		require.NoError(t, err)
		require.NotContains(t, string(text), "192.0.2.", "addresses are not shown")
		r.release(a)
	})
}

func TestADrainedInstanceTakesNoMoreTasksAndGoesWhenItIsEmpty(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 3)
		r := start(t, g, WithCapacityPerInstance(2))
		r.schedule(Schedule{IdleTime: time.Hour})
		a := r.acquire("a", time.Minute)
		require.Equal(t, "i-1", a.InstanceID())

		require.ErrorIs(t, r.Drain("i-7"), ErrUnknownInstance)
		require.NoError(t, r.Drain("i-1"))
		require.NoError(t, r.Drain("i-1"), "twice has the effect of once")
		require.Equal(t, ConditionDraining, r.Snapshot().Instances[0].Condition)
		b := r.acquire("b", time.Minute)
		require.Equal(t, "i-2", b.InstanceID(), "its free slot is not used any more")
		r.wait(time.Minute)
		require.Equal(t, []string{"i-1", "i-2"}, g.ids(), "its task still runs")

		r.release(a)
		r.wait(10 * time.Second)
		require.Equal(t, []string{"i-2"}, g.ids())
		events := told(r.Snapshot().Events)
		require.Contains(t, events, "mark 1 i-1: "+fleet.ReasonDrained)
		require.Contains(t, events, "delete 1 i-1: "+fleet.ReasonDrained)
		r.release(b)
	})
}

func TestAnIdleInstanceThatIsDrainedGoesAtOnceAndIsReplacedAsThePolicyAsks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 3)
		r := start(t, g)
		r.schedule(Schedule{IdleCount: 1, IdleTime: time.Hour})
		r.wait(time.Minute)
		require.NoError(t, r.Drain("i-1"))
		r.wait(time.Minute)
		require.Equal(t, []string{"i-2"}, g.ids())
	})
}

func TestAScalerThatIsShutDownShowsNothingAndDrainsNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 1))
		r.Shutdown(t.Context())
		require.Empty(t, r.Snapshot().Instances)
		require.ErrorIs(t, r.Drain("i-1"), ErrShutdown)
	})
}

func TestTheHistoryIsBoundedInTimeAndNumber(t *testing.T) {
	var h history
	now := time.Unix(0, 0)
	for i := range 3 * maxEvents {
		h.add(Event{At: now, Kind: EventMark, Count: i})
		now = now.Add(time.Second)
	}
	events, _ := h.since(now)
	require.Len(t, events, maxEvents)
	require.Equal(t, 3*maxEvents-1, events[len(events)-1].Count, "the oldest are forgotten first")
	events, _ = h.since(now.Add(historyTime - time.Minute))
	require.Less(t, len(events), 61)

	for i := range 3 * maxSamples {
		h.measured(fleet.Plan{Tally: fleet.Tally{Pending: i}}, now)
		now = now.Add(sampleInterval / 2)
	}
	_, samples := h.since(now)
	require.LessOrEqual(t, len(samples), maxSamples)
	require.LessOrEqual(t, now.Sub(samples[1].At), historyTime+2*sampleInterval)
	require.GreaterOrEqual(t, samples[1].At.Sub(samples[0].At), sampleInterval)

	h = history{}
	for range 100 {
		h.measured(fleet.Plan{Tally: fleet.Tally{Pending: 1}}, now)
		now = now.Add(time.Minute)
	}
	_, samples = h.since(now)
	require.Len(t, samples, 1, "what does not change is kept once")
}
