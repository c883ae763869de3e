package taskscaler

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestALostInstanceEndsTheContextsOfItsTasksAndIsReplacedAfterTheirRelease(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithCapacityPerInstance(2), WithMaxUseCount(9999), WithUpdateInterval(time.Second))
		r.schedule(Schedule{IdleTime: time.Hour})
		a := r.acquire("a", time.Minute)
		b := r.acquire("b", time.Minute)
		ctx, cancel := a.WithContext(context.Background())
		defer cancel()
		require.NoError(t, context.Cause(ctx))

		g.vanish("i-1")
		r.wait(10 * time.Second)
		cause := context.Cause(ctx)
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		require.ErrorIs(t, cause, ErrInstanceUnexpectedlyRemoved)
		require.NotErrorIs(t, cause, context.Canceled)
		require.NotErrorIs(t, cause, context.DeadlineExceeded)
		require.EqualError(t, cause, `instance unexpectedly removed: instance "i-1": instance disappeared`)
		late, cancelLate := b.WithContext(context.Background())
		defer cancelLate()
		require.ErrorIs(t, context.Cause(late), ErrInstanceUnexpectedlyRemoved, "also when asked for later")
		_, err := a.InstanceConnectInfo(context.Background())
		require.ErrorIs(t, err, ErrInstanceUnexpectedlyRemoved)

		require.Equal(t, []string{
			"error instance unexpectedly removed instance=i-1 max-use-count=9999 reason=instance disappeared slots=map[0:a 1:b] used=2",
		}, r.journal.lines("instance unexpectedly removed"))

		r.wait(time.Hour)
		require.Equal(t, 1, g.total(), "no replacement for tasks that have been placed")
		r.Release("a")
		r.Release("b")
		r.release(r.acquire("c", time.Minute))
		require.Equal(t, 2, g.total())
	})
}

func TestThePreparationOfAnInstanceThatIsLostOrDeletedEnds(t *testing.T) {
	for name, end := range map[string]func(r *rig){
		"vanished":             func(r *rig) { r.group.vanish("i-1") },
		"reported lost":        func(r *rig) { r.ReportLost("i-1", errTest) },
		"drained":              func(r *rig) { r.scaler.Drain("i-1") },
		"scaler was shut down": func(r *rig) { r.stopNow() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				ended := make(chan string, 9)
				r := start(t, newGroup(t, 1), WithUpdateInterval(time.Second), WithInstanceUpFunc(func(_ Taskscaler, instance UpFuncInstance) error {
					<-instance.Life.Done()
					ended <- instance.ID
					return errTest
				}))
				r.schedule(Schedule{IdleCount: 1, IdleTime: time.Hour})
				r.wait(5 * time.Second)
				require.Empty(t, ended)
				end(r)
				r.wait(10 * time.Second)
				require.NotEmpty(t, ended)
				require.Equal(t, "i-1", <-ended)
			})
		})
	}
}

func TestALostInstanceDoesNotHoldUpOtherTasks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithCapacityPerInstance(5), WithUpdateInterval(time.Second))
		r.acquire("a", time.Minute)
		g.vanish("i-1")
		r.wait(10 * time.Second)
		require.Equal(t, "i-2", r.acquire("b", time.Minute).InstanceID())
	})
}

func TestAnInstanceThatSomebodyElseDeletesIsLost(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithUpdateInterval(time.Second))
		a := r.acquire("a", time.Minute)
		ctx, cancel := a.WithContext(context.Background())
		defer cancel()
		g.with(func() { g.find("i-1").state = provider.StateDeleting })
		r.wait(2 * time.Second)
		require.ErrorContains(t, context.Cause(ctx), "deleted by somebody else")
		require.Empty(t, g.deletions())
	})
}

func TestAContextThatEndsByItselfKeepsItsCause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 1))
		a := r.acquire("a", time.Minute)

		ctx, cancel := a.WithContext(context.Background())
		cancel()
		require.Equal(t, context.Canceled, context.Cause(ctx))

		parent, cancelParent := context.WithTimeout(context.Background(), time.Second)
		defer cancelParent()
		ctx, cancel = a.WithContext(parent)
		defer cancel()
		r.wait(2 * time.Second)
		require.Equal(t, context.DeadlineExceeded, context.Cause(ctx))

		special, cancelSpecial := context.WithCancelCause(context.Background())
		ctx, cancel = a.WithContext(special)
		defer cancel()
		cancelSpecial(errTest)
		require.Equal(t, errTest, context.Cause(ctx))
	})
}

func TestAnInstanceThatIsReportedLostIsEmptiedAndDeleted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithCapacityPerInstance(2))
		r.schedule(Schedule{IdleTime: time.Hour})
		a := r.acquire("a", time.Minute)
		ctx, cancel := a.WithContext(context.Background())
		defer cancel()

		broken := errors.New("broken pipe")
		var reporter InstanceReporter = r.scaler
		reporter.ReportLost("i-1", broken)
		r.wait(0)
		require.ErrorIs(t, context.Cause(ctx), ErrInstanceUnexpectedlyRemoved)
		require.ErrorIs(t, context.Cause(ctx), broken)
		require.EqualError(t, context.Cause(ctx), `instance unexpectedly removed: instance "i-1": broken pipe`)
		reporter.ReportLost("i-1", broken) // a second job on the instance notices it too

		b := r.acquire("b", time.Minute)
		require.Equal(t, "i-2", b.InstanceID())
		r.wait(time.Minute)
		require.Empty(t, g.deletions(), "not before the task is released")
		r.release(a)
		r.wait(time.Second)
		require.Equal(t, []string{"i-1"}, g.deletions())
		require.Equal(t, []string{
			"error instance unexpectedly removed instance=i-1 max-use-count=0 reason=instance was reported lost: broken pipe slots=map[0:a] used=1",
		}, r.journal.lines("instance unexpectedly removed"))
		require.Equal(t, []string{
			"info instance marked for removal instance=i-1 reason=instance was reported lost: broken pipe",
		}, r.journal.lines("instance marked for removal"))
	})
}

func TestAnInstanceThatComesBackAfterItVanishedIsRemoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithMaxUseCount(1), WithUpdateInterval(time.Second))
		r.schedule(Schedule{IdleTime: time.Hour})
		r.acquire("a", time.Minute)
		g.vanish("i-1")
		r.wait(10 * time.Second)
		g.with(func() { g.add("i-1", provider.StateRunning) })
		r.wait(10 * time.Second)
		require.Equal(t, []string{"i-1"}, g.deletions(), "it was used, and nobody knows what is left on it")
		require.Contains(t, r.journal.lines("instance marked for removal"),
			"info instance marked for removal instance=i-1 reason=instance came back after it had vanished")
	})
}

func TestAnUnexpectedInstanceIsPreparedAndUsed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithUpdateInterval(time.Second))
		r.schedule(Schedule{IdleTime: time.Hour})
		g.with(func() { g.add("surprise", provider.StateRunning) })
		r.wait(5 * time.Second)
		require.Equal(t, "surprise", r.acquire("a", time.Second).InstanceID())
		require.Zero(t, g.total())
	})
}
