package fleet

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

var start = time.Unix(1_000_000, 0)

func newState(config Config) *State {
	config.CapacityPerInstance = max(1, config.CapacityPerInstance)
	config.FailureThreshold = max(1, config.FailureThreshold)
	return New(config)
}

// carryOut applies plans until there is nothing left to do; preparations succeed at once.
func carryOut(s *State, now time.Time) (done []Decision) {
	for {
		plan := s.Plan(now, nil)
		if len(plan.Decisions) == 0 {
			return done
		}
		for _, d := range plan.Decisions {
			s.Apply(d, now)
			done = append(done, d)
			if d.Kind == Prepare {
				s.Prepared(d.Instance, nil, now)
			}
		}
	}
}

func kinds(decisions []Decision) (list []string) {
	for _, d := range decisions {
		list = append(list, d.Kind.String())
	}
	return list
}

// readyState returns a state with instances that are ready.
func readyState(n int, config Config) *State {
	s := newState(config)
	s.SetPolicy(Policy{IdleTime: 30 * time.Minute})
	for i := range n {
		s.Discover(fmt.Sprint("i-", i), Unexpected, provider.StateRunning, nil, start)
	}
	carryOut(s, start)
	return s
}

func TestPlanChangesNothing(t *testing.T) {
	s := readyState(3, Config{})
	s.SetPolicy(Policy{IdleCount: 5})
	require.NoError(t, s.Enqueue("a"))
	first := s.Plan(start, nil)
	require.NotEmpty(t, first.Decisions)
	require.Equal(t, first, s.Plan(start, nil))
}

func TestEveryDecisionAboutAnInstanceHasAReason(t *testing.T) {
	s := readyState(2, Config{})
	s.ReportLost(s.Instances()[0], "no route")
	for _, d := range carryOut(s, start.Add(time.Hour)) {
		switch d.Kind {
		case Lose, Mark, Delete, Create:
			require.NotEmpty(t, d.Reason, d.Kind)
		}
	}
}

func TestASuspensionThatFailedIsTriedAgainLater(t *testing.T) {
	s := readyState(1, Config{})
	s.SetPolicy(Policy{IdleTime: time.Hour})
	in := s.Instances()[0]
	require.NoError(t, s.Enqueue("a"))
	carryOut(s, start)
	require.True(t, s.Confirm("a", 1))
	require.NoError(t, s.Suspend("a"))
	require.Equal(t, []string{"sleep"}, kinds(carryOut(s, start)))

	s.Observe(in, provider.StateSuspending, start)
	s.Observe(in, provider.StateRunning, start)
	require.Empty(t, carryOut(s, start.Add(59*time.Second)))
	require.Equal(t, []string{"sleep"}, kinds(carryOut(s, start.Add(time.Minute))))
	require.Empty(t, carryOut(s, start.Add(119*time.Second)))
	require.Equal(t, []string{"sleep"}, kinds(carryOut(s, start.Add(2*time.Minute))), "it had no effect at all")
}

func TestATaskRestoredOnASlotBeyondTodaysCapacityKeepsIt(t *testing.T) {
	s := readyState(0, Config{CapacityPerInstance: 2})
	in := s.Discover("i", Preexisted, provider.StateRunning, &Memory{Used: 3, Tasks: []RememberedTask{
		{Key: "far", Slot: 5}, {Key: "twice", Slot: 5}, {Key: "negative", Slot: -1}, {Key: "absurd", Slot: 1 << 40},
	}}, start)
	carryOut(s, start)
	require.Equal(t, 5, s.Task("far").Slot())
	slots := map[int]bool{}
	for _, task := range in.Tasks() {
		require.False(t, slots[task.Slot()])
		slots[task.Slot()] = true
	}
	require.Len(t, slots, 4)
	require.NoError(t, s.Enqueue("new"))
	carryOut(s, start)
	require.Nil(t, s.Task("new").Instance(), "the instance is full")
	require.Equal(t, 0, s.Task("twice").Slot())
	require.True(t, s.Release("twice", start))
	carryOut(s, start)
	require.Equal(t, 0, s.Task("new").Slot())
}

func TestAnInstanceOnItsWayHoldsBackRemovalOfTheOnlyIdleOne(t *testing.T) {
	s := readyState(1, Config{})
	s.SetPolicy(Policy{IdleCount: 1})
	s.Discover("booting", Unexpected, provider.StateCreating, nil, start)
	require.Empty(t, carryOut(s, start.Add(time.Hour)), "there are two, but one of them is not idle yet")
}

func TestVanishedIdsAreForgottenAfterADay(t *testing.T) {
	s := readyState(1, Config{})
	s.SetPolicy(Policy{IdleCount: 1})
	s.Observe(s.Instances()[0], provider.StateTimeout, start)
	require.Len(t, s.vanished, 1)
	in := s.Discover("other", Unexpected, provider.StateRunning, nil, start)
	carryOut(s, start)
	s.Observe(in, provider.StateTimeout, start.Add(25*time.Hour))
	require.Len(t, s.vanished, 1)
}

func TestAStoppedStateOnlyFollowsWhatHappens(t *testing.T) {
	s := readyState(2, Config{})
	require.NoError(t, s.Enqueue("a"))
	carryOut(s, start)
	require.True(t, s.Confirm("a", 1))
	require.NoError(t, s.Enqueue("b"))
	s.Stop()
	require.Empty(t, carryOut(s, start.Add(time.Hour)))
	for _, in := range s.Instances() {
		s.Observe(in, provider.StateDeleted, start)
	}
	require.ElementsMatch(t, []string{"lose", "forget"}, kinds(carryOut(s, start.Add(time.Hour))))
	require.True(t, s.Release("a", start))
	require.Equal(t, []string{"forget"}, kinds(carryOut(s, start.Add(time.Hour))))
	require.Empty(t, s.Instances())
}

func TestBackoffDoublesPerWaveUpToItsLimit(t *testing.T) {
	b := backoff{limit: 10 * time.Second}
	now := start
	for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		began := now
		now = now.Add(time.Minute)
		b.fail(began.Add(time.Second), now)
		require.Equal(t, now.Add(want*time.Second), b.until)
		failures := b.failures
		b.fail(began, now.Add(time.Second)) // of the same wave
		require.Equal(t, failures, b.failures)
	}
	b.succeed()
	require.Equal(t, backoff{limit: 10 * time.Second}, b)
}

func TestAPlanForAThousandInstancesTakesLessThanAMillisecondAndAllocatesNothing(t *testing.T) {
	s := readyState(1000, Config{CapacityPerInstance: 4})
	s.SetPolicy(Policy{IdleCount: 4000, IdleTime: time.Minute})
	now := start.Add(time.Hour)
	buffer := make([]Decision, 0, 16)
	require.Zero(t, testing.AllocsPerRun(10, func() { s.Plan(now, buffer) }))

	best := time.Hour
	for range 50 {
		before := time.Now()
		s.Plan(now, buffer)
		best = min(best, time.Since(before))
	}
	t.Logf("%s per plan", best)
	require.Less(t, best, time.Millisecond)
}

func BenchmarkPlanAtRest(b *testing.B) {
	s := readyState(1000, Config{CapacityPerInstance: 4})
	s.SetPolicy(Policy{IdleCount: 4000, IdleTime: time.Minute})
	now := start.Add(time.Hour)
	var buffer []Decision
	b.ReportAllocs()
	for b.Loop() {
		buffer = s.Plan(now, buffer).Decisions
	}
}

func BenchmarkPlanPlacingOneTask(b *testing.B) {
	s := readyState(1000, Config{CapacityPerInstance: 4})
	if err := s.Enqueue("a"); err != nil {
		b.Fatal(err)
	}
	var buffer []Decision
	b.ReportAllocs()
	for b.Loop() {
		buffer = s.Plan(start, buffer).Decisions
	}
}

func BenchmarkPlanPlacingFiveThousandTasks(b *testing.B) {
	s := readyState(1000, Config{CapacityPerInstance: 4})
	for i := range 5000 {
		if err := s.Enqueue(fmt.Sprint(i)); err != nil {
			b.Fatal(err)
		}
	}
	var buffer []Decision
	b.ReportAllocs()
	for b.Loop() {
		buffer = s.Plan(start, buffer).Decisions
	}
}

func BenchmarkPlanRemovingAThousand(b *testing.B) {
	s := readyState(1000, Config{CapacityPerInstance: 4})
	var buffer []Decision
	b.ReportAllocs()
	for b.Loop() {
		buffer = s.Plan(start.Add(time.Hour), buffer).Decisions
	}
}
