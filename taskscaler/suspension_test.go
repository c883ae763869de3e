package taskscaler

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func newSuspendableGroup(t *testing.T, maxSize int) *group {
	g := newGroup(t, maxSize)
	g.bootTime = 5 * time.Second
	g.capabilities = []provider.Capability{provider.CapabilitySuspendResume}
	return g
}

// suspend marks a task's instance as free of it, then suspends the task.
func (r *rig) suspendTask(a Acquisition) {
	r.t.Helper()
	r.group.occupy(a.InstanceID(), -1)
	require.NoError(r.t, r.Suspend(a.Key()))
}

func TestAnInstanceIsSuspendedWithItsLastActiveTask(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 2)
		r := start(t, g, WithCapacityPerInstance(2), WithUpdateInterval(time.Second))
		r.schedule(Schedule{IdleTime: time.Hour})
		a, b := r.acquire("a", time.Minute), r.acquire("b", time.Minute)
		require.Equal(t, a.InstanceID(), b.InstanceID())
		ctx, cancel := a.WithContext(context.Background())
		defer cancel()

		r.suspendTask(a)
		require.Equal(t, ErrAcquisitionSuspended, context.Cause(ctx))
		_, err := a.InstanceConnectInfo(context.Background())
		require.ErrorIs(t, err, ErrAcquisitionSuspended)
		r.wait(time.Minute)
		require.Equal(t, provider.StateRunning, g.stateOf("i-1"), "b still runs")

		r.release(b)
		r.wait(time.Minute)
		require.Equal(t, provider.StateSuspended, g.stateOf("i-1"))
		require.Equal(t, "i-2", r.acquire("c", time.Minute).InstanceID(), "its free slot is out of reach")

		before := time.Now()
		again, err := r.Resume(context.Background(), "a")
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(before), 5*time.Second)
		g.occupy("i-1", 1)
		require.Same(t, a, again)
		require.Equal(t, 0, again.Slot())
		info, err := again.InstanceConnectInfo(context.Background())
		require.NoError(t, err)
		require.Equal(t, "192.0.2.3", info.InternalAddr, "the address changed")
		ctx, cancel = again.WithContext(context.Background())
		defer cancel()
		require.NoError(t, ctx.Err())
		r.wait(time.Hour)
		require.Equal(t, provider.StateRunning, g.stateOf("i-1"))
		r.release(again)
		require.Equal(t, 2, g.total())
	})
}

func TestFreeSlotsBesideSuspendedOnesAreUsedWhileTheInstanceRuns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 1)
		r := start(t, g, WithCapacityPerInstance(3))
		a, b := r.acquire("a", time.Minute), r.acquire("b", time.Minute)
		r.suspendTask(a)
		c := r.acquire("c", time.Minute)
		require.Equal(t, 2, c.Slot(), "the slot of the suspended task is skipped")
		r.release(b)
		require.Equal(t, 1, r.acquire("d", time.Minute).Slot())
	})
}

func TestSuspendedInstancesCountAgainstTheMaximum(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 1)
		r := start(t, g)
		r.suspendTask(r.acquire("a", time.Minute))
		r.wait(time.Minute)
		require.ErrorIs(t, r.Reserve("b"), ErrNoCapacity)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := r.Acquire(ctx, "b")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 1, g.total())
	})
}

func TestReleasingTheLastSuspendedTaskDeletesTheInstance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 1)
		r := start(t, g)
		r.suspendTask(r.acquire("a", time.Minute))
		r.wait(time.Minute)
		r.Release("a")
		r.wait(5 * time.Second)
		require.Equal(t, []string{"i-1"}, g.deletions())
		require.Zero(t, g.count("Resume"), "without resuming it")
	})
}

func TestAResumeThatIsGivenUpLeavesTheTaskSuspended(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 1)
		g.bootTime = 10 * time.Second
		r := start(t, g, WithUpdateInterval(time.Second))
		a := r.acquire("a", time.Minute)
		r.suspendTask(a)
		r.wait(time.Minute)

		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := r.Resume(ctx, "a")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Same(t, a, r.Get("a"))
		r.wait(3 * time.Minute)
		require.Equal(t, provider.StateSuspended, g.stateOf("i-1"), "it is not left running for nobody")

		_, err = r.Resume(context.Background(), "a")
		require.NoError(t, err)
		_, err = r.Resume(context.Background(), "a")
		require.EqualError(t, err, `resuming "a": the task is not suspended or is being resumed already`)
	})
}

func TestResumingATaskOfAnInstanceThatIsGoneFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 1)
		r := start(t, g, WithUpdateInterval(time.Second))
		r.suspendTask(r.acquire("a", time.Minute))
		r.wait(time.Minute)
		g.vanish("i-1")
		r.wait(time.Minute)
		_, err := r.Resume(context.Background(), "a")
		require.ErrorIs(t, err, ErrInstanceUnexpectedlyRemoved)
		require.Nil(t, r.Get("a"))
		_, err = r.Resume(context.Background(), "a")
		require.EqualError(t, err, `resuming "a": no task with this key holds a slot`)
		r.wait(time.Second)
		r.requireEmpty(0)
	})
}

func TestSuspendNeedsTheCapabilityAndATask(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 1))
		require.False(t, r.HasCapability(provider.CapabilitySuspendResume))
		r.acquire("a", time.Minute)
		require.ErrorIs(t, r.Suspend("a"), provider.ErrSuspendResumeNotSupported)
		_, err := r.Resume(context.Background(), "a")
		require.ErrorIs(t, err, provider.ErrSuspendResumeNotSupported)
	})
	bubble(t, func(t *testing.T) {
		r := start(t, newSuspendableGroup(t, 1))
		require.True(t, r.HasCapability(provider.CapabilitySuspendResume))
		require.EqualError(t, r.Suspend("a"), `suspending "a": no task with this key holds a slot`)
		r.suspendTask(r.acquire("a", time.Minute))
		require.EqualError(t, r.Suspend("a"), `suspending "a": the task is suspended already`)
	})
}

func TestTasksLeaveAnInstanceThatSomebodyElseSuspends(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 2)
		r := start(t, g, WithUpdateInterval(time.Second))
		r.schedule(Schedule{IdleTime: time.Hour})
		a := r.acquire("a", time.Minute)
		ctx, cancel := a.WithContext(context.Background())
		defer cancel()
		g.with(func() { g.find("i-1").state = provider.StateSuspended })
		r.wait(5 * time.Second)
		require.ErrorIs(t, context.Cause(ctx), ErrInstanceUnexpectedlyRemoved)
		r.release(a)
		r.wait(5 * time.Second)
		require.Equal(t, []string{"i-1"}, g.deletions())
	})
}
