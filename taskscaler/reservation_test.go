package taskscaler

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPreemptiveModeReservesOnlyWhatIsFreeNow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		ready := make(chan struct{})
		r := start(t, g, WithInstanceUpFunc(func(Taskscaler, UpFuncInstance) error {
			<-ready
			return nil
		}))
		r.schedule(Schedule{IdleCount: 1, PreemptiveMode: true})
		r.wait(10 * time.Second)

		err := r.Reserve("a")
		require.ErrorIs(t, err, ErrNoCapacity)
		require.EqualError(t, err, "no capacity: no immediately available capacity (idle:0,acquired:0,unavailable:0,unhealthy:0,unready:1)")

		close(ready)
		r.wait(0)
		require.NoError(t, r.Reserve("a"))
		require.NoError(t, r.Reserve("a"), "the same key twice is one reservation")
		require.ErrorIs(t, r.Reserve("b"), ErrNoCapacity)
		r.Unreserve("a")
		require.NoError(t, r.Reserve("b"))
	})
}

func TestWithoutPreemptiveModeWhatCouldBeCreatedIsReservedToo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 2)
		g.bootTime = time.Minute
		r := start(t, g, WithCapacityPerInstance(2))
		for i := range 4 {
			require.NoError(t, r.Reserve(fmt.Sprint(i)))
		}
		err := r.Reserve("one too many")
		require.ErrorIs(t, err, ErrNoCapacity)
		require.EqualError(t, err, "no capacity: no immediately available nor potential capacity (idle:0,acquired:0,unavailable:0,unhealthy:0,unready:0)")
		r.wait(time.Hour)
		require.Zero(t, g.total(), "reservations alone create nothing")

		go func() { _, _ = r.Acquire(t.Context(), "0") }()
		r.wait(30 * time.Second)
		require.Equal(t, 1, g.total())
		require.ErrorIs(t, r.Reserve("one too many"), ErrNoCapacity, "a waiting task takes the place of its reservation")
		r.Unreserve("1")
		require.NoError(t, r.Reserve("not too many any more"))
	})
}

func TestReservationsHoldBackRemoval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 3)
		r := start(t, g)
		r.schedule(Schedule{IdleCount: 3, IdleTime: time.Minute})
		r.wait(10 * time.Second)
		require.NoError(t, r.Reserve("a"))
		r.schedule(Schedule{IdleTime: time.Minute})
		r.wait(10 * time.Minute)
		require.Len(t, g.ids(), 1, "the others can go without touching what is reserved")
		r.Unreserve("a")
		r.wait(5 * time.Second)
		require.Empty(t, g.ids())
	})
}

func TestThrottledReservationsLeaveOneInstanceToBeRemoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, tt := range []struct{ idle, capacity, want int }{{1, 1, 1}, {2, 1, 1}, {3, 1, 2}, {4, 2, 2}, {8, 2, 6}} {
			g := newGroup(t, 10)
			r := start(t, g, WithReservationThrottling(), WithCapacityPerInstance(tt.capacity))
			r.schedule(Schedule{IdleCount: tt.idle, PreemptiveMode: true})
			r.wait(10 * time.Second)
			accepted := 0
			var refusal error
			for refusal == nil {
				if refusal = r.Reserve(fmt.Sprint(accepted)); refusal == nil {
					accepted++
				}
			}
			require.ErrorIs(t, refusal, ErrNoCapacity)
			require.Equal(t, tt.want, accepted, "%+v", tt)
		}
	})
}

func TestWithoutReservationsNothingIsRemembered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 1), func(o *options) { o.fleet.Reservations = false })
		require.NoError(t, r.Reserve("a"))
		require.NoError(t, r.Reserve("b"))
		a := r.acquire("c", time.Minute)
		require.ErrorIs(t, r.Reserve("d"), ErrNoCapacity)
		r.release(a)
		require.NoError(t, r.Reserve("d"))
	})
}

func TestPollingWithoutJobsLeavesNoReservationBehind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 1))
		for i := range 1000 {
			key := fmt.Sprint(i)
			require.NoError(t, r.Reserve(key))
			r.Unreserve(key)
		}
		available, potential := r.Capacity()
		require.Equal(t, []int{0, 1}, []int{available, potential})
	})
}

func TestErrNoCapacityStartsTheText(t *testing.T) {
	require.Equal(t, "no capacity", ErrNoCapacity.Error())
	require.False(t, errors.Is(ErrShutdown, ErrNoCapacity))
}
