package taskscaler

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIdleInstancesAreCreatedAndTheChangeIsLogged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 100)
		g.bootTime = 10 * time.Second
		r := start(t, g, WithMaxInstances(5), WithCapacityPerInstance(4))
		r.schedule(Schedule{IdleCount: 8, IdleTime: time.Minute})
		r.wait(time.Minute)

		require.Equal(t, []string{"i-1", "i-2"}, g.ids())
		require.Equal(t, []string{
			"info required scaling change capacity-info=instance_count:0,max_instance_count:5,acquired:0,unavailable_capacity:0,pending:0,reserved:0,idle_count:8,scale_factor:0,scale_factor_limit:0,capacity_per_instance:4 required=2",
			"info creating instances amount=2 reason=0 tasks waiting, 0 acquired, idle target 8",
			"info required scaling change capacity-info=instance_count:2,max_instance_count:5,acquired:0,unavailable_capacity:0,pending:0,reserved:0,idle_count:8,scale_factor:0,scale_factor_limit:0,capacity_per_instance:4 required=0",
		}, r.journal.lines("required scaling change", "creating instances"))
		require.ElementsMatch(t, []string{
			"info instance is ready instance=i-1 took=0",
			"info instance is ready instance=i-2 took=0",
		}, r.journal.lines("instance is ready"))
	})
}

func TestAcquireReturnsAtOnceWhenASlotIsIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g)
		r.schedule(Schedule{IdleCount: 1, PreemptiveMode: true})
		r.wait(5 * time.Second)

		before := time.Now()
		require.NoError(t, r.Reserve("a"))
		a := r.acquire("a", time.Minute)
		require.Zero(t, time.Since(before))
		require.Equal(t, "i-1", a.InstanceID())
		require.Equal(t, 0, a.Slot())
		require.Equal(t, "a", a.Key())
		require.Same(t, a, r.Get("a"))
		r.release(a)
		require.Nil(t, r.Get("a"))
	})
}

func TestAcquireWithoutCapacityEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 1)
		r := start(t, g)
		held := r.acquire("held", time.Minute)

		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
		defer cancel()
		before := time.Now()
		_, err := r.Acquire(ctx, "key")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.EqualError(t, err, "context deadline exceeded")
		require.Equal(t, 15*time.Minute, time.Since(before))

		r.release(held)
		r.release(r.acquire("key", time.Second)) // the same key may be tried again
	})
}

// A task takes the idle instance, another becomes the reserve; when the task ends the instance that is
// idle for longer goes, and nothing replaces it.
func TestTheLongestIdleInstanceIsRemovedAfterItsIdleTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithMaxInstances(5))
		r.schedule(Schedule{IdleCount: 1, IdleTime: 2 * time.Minute})
		r.wait(10 * time.Second)
		a := r.acquire("a", time.Second)
		require.Equal(t, "i-1", a.InstanceID())
		r.wait(time.Minute)
		require.Equal(t, []string{"i-1", "i-2"}, g.ids())

		r.release(a)
		r.wait(10 * time.Second)
		require.Len(t, g.ids(), 2, "i-2 is idle for less than two minutes")
		r.wait(time.Minute)
		require.Equal(t, []string{"i-1"}, g.ids())
		require.Contains(t, r.journal.lines("instance marked for removal"),
			"info instance marked for removal instance=i-2 reason=instance exceeded max idle time")

		r.wait(time.Hour)
		require.Equal(t, []string{"i-1"}, g.ids())
		require.Equal(t, 2, g.total())
	})
}

func TestTheFleetReturnsToZeroWhenNoIdleCapacityIsWanted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithMaxInstances(5), WithCapacityPerInstance(5))
		r.schedule(Schedule{IdleTime: time.Minute})
		a := r.acquire("a", time.Minute)
		r.wait(time.Hour)
		require.Len(t, g.ids(), 1)
		r.release(a)
		r.wait(50 * time.Second)
		require.Len(t, g.ids(), 1)
		r.wait(12 * time.Second)
		require.Empty(t, g.ids())
		r.wait(time.Hour)
		require.Equal(t, 1, g.total())
		r.requireEmpty(0)
	})
}

func TestAUsedUpInstanceIsDeletedAtOnceAndNotReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithMaxInstances(5), WithMaxUseCount(1))
		r.schedule(Schedule{IdleTime: time.Hour})
		a := r.acquire("a", time.Minute)
		r.wait(time.Minute)
		r.release(a)
		r.wait(0)
		require.True(t, a.(*acquisition).on.handle.DeletedAt().Equal(time.Now()), "without waiting for the next evaluation")
		r.wait(time.Second)
		require.Equal(t, []string{"i-1"}, g.deletions())
		r.wait(time.Hour)
		require.Equal(t, 1, g.total())
		require.Equal(t, []string{
			"info instance marked for removal instance=i-1 reason=instance exceeded max use count",
		}, r.journal.lines("instance marked for removal"))
	})
}

func TestAnInstanceTakesNoMoreTasksThanItsUseCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithMaxInstances(5), WithCapacityPerInstance(2), WithMaxUseCount(3))
		r.schedule(Schedule{IdleTime: time.Hour})
		on := map[string]int{}
		for range 9 {
			a, b := r.acquire("a", time.Minute), r.acquire("b", time.Minute)
			on[a.InstanceID()]++
			on[b.InstanceID()]++
			r.release(a)
			r.release(b)
			r.wait(2 * time.Second)
		}
		require.Equal(t, map[string]int{"i-1": 3, "i-2": 3, "i-3": 3, "i-4": 3, "i-5": 3, "i-6": 3}, on)
	})
}

func TestATaskKeepsItsSlotAndTheLowestFreeOneIsGivenOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 1)
		r := start(t, g, WithCapacityPerInstance(3))
		a, b, c := r.acquire("a", time.Minute), r.acquire("b", time.Minute), r.acquire("c", time.Minute)
		require.Equal(t, []int{0, 1, 2}, []int{a.Slot(), b.Slot(), c.Slot()})
		r.release(b)
		d := r.acquire("d", time.Second)
		require.Equal(t, 1, d.Slot())
		r.release(a)
		r.release(d)
		require.Equal(t, 0, r.acquire("e", time.Second).Slot())
		require.Equal(t, 2, c.Slot())
	})
}

func TestTheFullestInstanceIsFilledFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 3)
		r := start(t, g, WithCapacityPerInstance(2))
		r.schedule(Schedule{IdleCount: 6})
		r.wait(5 * time.Second)
		a := r.acquire("a", time.Second)
		b := r.acquire("b", time.Second)
		require.Equal(t, a.InstanceID(), b.InstanceID())
		require.NotEqual(t, a.InstanceID(), r.acquire("c", time.Second).InstanceID())
	})
}

func TestWaitingTasksAreServedInTheirOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 1)
		r := start(t, g)
		held := r.acquire("held", time.Minute)
		served := make(chan string, 3)
		for _, key := range []string{"1", "2", "3"} {
			go func() {
				a, err := r.Acquire(context.Background(), key)
				if err == nil {
					served <- a.Key()
					r.Release(key)
				}
			}()
			r.wait(time.Millisecond)
		}
		r.release(held)
		r.wait(time.Second)
		close(served)
		var order []string
		for key := range served {
			order = append(order, key)
		}
		require.Equal(t, []string{"1", "2", "3"}, order)
	})
}

func TestAKeyCannotBeAcquiredTwice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 2))
		r.acquire("a", time.Minute)
		_, err := r.Acquire(context.Background(), "a")
		require.EqualError(t, err, `acquiring "a": a task with this key waits or holds a slot already`)
	})
}

func TestCallsWithUnknownKeysHaveNoEffect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 1))
		r.Release("nobody")
		r.Unreserve("nobody")
		r.ReportLost("nothing", errTest)
		require.Nil(t, r.Get("nobody"))
		available, potential := r.Capacity()
		require.Equal(t, []int{0, 1}, []int{available, potential})
	})
}

func TestScaleThrottleAllowsABurstAndThenARate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 1000)
		r := start(t, g, WithScaleThrottle(1, 60))
		r.schedule(Schedule{IdleCount: 200, IdleTime: time.Hour})
		r.wait(500 * time.Millisecond)
		require.Equal(t, 60, g.total())
		r.wait(30 * time.Second)
		require.InDelta(t, 90, g.total(), 1)
		r.schedule(Schedule{IdleTime: time.Hour})
		r.wait(60 * time.Second)
		before := g.total()
		r.schedule(Schedule{IdleCount: 200, IdleTime: time.Hour})
		r.wait(500 * time.Millisecond)
		require.InDelta(t, 60, g.total()-before, 1, "a minute without creation fills the bucket")
		require.Contains(t, r.journal.lines("creation of instances held back"),
			"info creation of instances held back reason=scale throttle required=200")
	})
}

func TestThrottleDefaults(t *testing.T) {
	require.Nil(t, newThrottle(-1, 7, 5))
	for _, tt := range []struct{ limit, burst, maxInstances, wantLimit, wantBurst int }{
		{0, 0, 0, 100, 100},
		{0, 0, 5, 100, 5},
		{7, 0, 0, 7, 7},
		{7, 0, 5, 7, 5},
		{1, 60, 5, 1, 60},
	} {
		got := newThrottle(tt.limit, tt.burst, tt.maxInstances)
		require.InDelta(t, tt.wantLimit, float64(got.Limit()), 0)
		require.Equal(t, tt.wantBurst, got.Burst())
	}
}

func TestTheGroupsOwnMaximumHoldsBesideTheConfiguredOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, options := range [][]Option{{WithMaxInstances(9)}, {}} {
			g := newGroup(t, 2)
			r := start(t, g, options...)
			r.schedule(Schedule{IdleCount: 5})
			r.wait(10 * time.Second)
			require.Len(t, g.ids(), 2)
			_, potential := r.Capacity()
			require.Zero(t, potential)
		}
	})
}

func TestNewFailsWhenTheGroupDoes(t *testing.T) {
	_, err := New(context.Background(), failingGroup{newGroup(t, 1)})
	require.ErrorIs(t, err, errTest)
	require.ErrorContains(t, err, "starting provisioner: ")
}
