package taskscaler

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestShutdownEndsWaitingCallsAndRefusesNewOnes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 1)
		r := start(t, g)
		a := r.acquire("a", time.Minute)
		ctx, cancel := a.WithContext(context.Background())
		defer cancel()
		waiting := make(chan error, 1)
		go func() {
			_, err := r.Acquire(context.Background(), "b")
			waiting <- err
		}()
		r.wait(time.Second)

		r.stopNow()
		require.ErrorIs(t, <-waiting, ErrShutdown)
		require.True(t, g.shutdown)
		require.NoError(t, ctx.Err(), "running tasks are their owners' business")

		_, err := r.Acquire(context.Background(), "c")
		require.ErrorIs(t, err, ErrShutdown)
		require.ErrorIs(t, r.Reserve("c"), ErrNoCapacity)
		require.ErrorIs(t, r.Reserve("c"), ErrShutdown)
		r.Release("a")
		r.Unreserve("a")
		r.ReportLost("i-1", errTest)
		require.Nil(t, r.Get("a"))
		r.stopNow() // a second time has no effect
	})
}

func TestShutdownDeletesInstancesIfConfigured(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		dir := t.TempDir()
		r := start(t, g, WithDeleteInstancesOnShutdown(), WithStorage(newStorage(t, dir)), WithShutdownDeletionInterval(time.Second))
		r.schedule(Schedule{IdleCount: 3})
		r.wait(5 * time.Second)
		r.stopNow()
		require.Empty(t, g.ids())
		require.Empty(t, r.journal.lines("instance unexpectedly removed"))
		states, err := newStorage(t, dir).List()
		require.NoError(t, err)
		require.Empty(t, states)
	})
}

func TestTasksLearnThatShutdownDeletedTheirInstance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithDeleteInstancesOnShutdown(), WithShutdownDeletionInterval(time.Second))
		a := r.acquire("a", time.Minute)
		ctx, cancel := a.WithContext(context.Background())
		defer cancel()
		g.occupy("i-1", -1)
		r.stopNow()
		require.ErrorIs(t, context.Cause(ctx), ErrInstanceUnexpectedlyRemoved)
	})
}

func TestShutdownWaitsForPreparationsButNotForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		release := make(chan struct{})
		r := start(t, g, WithInstanceUpFunc(func(Taskscaler, UpFuncInstance) error {
			<-release
			return nil
		}))
		r.schedule(Schedule{IdleCount: 1})
		r.wait(5 * time.Second)
		before := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		r.Shutdown(ctx)
		require.Equal(t, 10*time.Second, time.Since(before))
		require.NotEmpty(t, r.journal.lines("functions that prepare instances did not return in time"))
		close(release)
	})
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 5), WithInstanceUpFunc(func(Taskscaler, UpFuncInstance) error {
			time.Sleep(3 * time.Second)
			return nil
		}))
		r.schedule(Schedule{IdleCount: 1})
		r.wait(time.Second)
		before := time.Now()
		r.stopNow()
		require.InDelta(t, 2, time.Since(before).Seconds(), 0.5)
	})
}

func TestShutdownCreatesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithDeleteInstancesOnShutdown(), WithShutdownDeletionInterval(10*time.Second), WithInstanceUpFunc(func(ts Taskscaler, _ UpFuncInstance) error {
			return nil
		}))
		r.schedule(Schedule{IdleCount: 3})
		r.wait(5 * time.Second)
		r.stopNow()
		require.Equal(t, 3, g.total())
	})
}
