package taskscaler

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestAnInstanceThatFailsItsHeartbeatIsSkipped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		var asked []string
		r := start(t, g, WithHeartbeatFunc(func(_ context.Context, info provider.ConnectInfo) error {
			asked = append(asked, info.ID)
			if info.ID == "i-1" {
				return errTest
			}
			return nil
		}))
		r.schedule(Schedule{IdleCount: 2, IdleTime: time.Hour})
		r.wait(5 * time.Second)

		before := time.Now()
		a := r.acquire("a", time.Minute)
		require.Zero(t, time.Since(before), "the next candidate is tried at once")
		require.Equal(t, "i-2", a.InstanceID())
		require.Equal(t, "i-2", asked[len(asked)-1])
		require.Contains(t, r.journal.lines(), "warn instance failed health check err=it failed instance=i-1")
	})
}

func TestAfterTheThresholdOfFailuresAnInstanceIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 1)
		g.sick["i-1"] = true
		r := start(t, g)
		r.schedule(Schedule{IdleCount: 1, IdleTime: time.Hour})
		r.wait(5 * time.Second)

		before := time.Now()
		a := r.acquire("a", time.Minute)
		require.Equal(t, "i-2", a.InstanceID())
		require.InDelta(t, 6, time.Since(before).Seconds(), 1.5, "three checks, after 0, 2 and 6 seconds")
		r.wait(time.Second)
		require.Equal(t, []string{"i-1"}, g.deletions())
		require.Contains(t, r.journal.lines("instance marked for removal"),
			"info instance marked for removal instance=i-1 reason=instance exceeded failure threshold")
	})
}

func TestAPluginThatIsDownSaysNothingAboutInstances(t *testing.T) {
	for name, options := range map[string][]Option{
		"without heartbeat": nil,
		"with heartbeat":    {WithHeartbeatFunc(func(context.Context, provider.ConnectInfo) error { return nil })},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				g := newGroup(t, 1)
				r := start(t, g, options...)
				r.schedule(Schedule{IdleCount: 1, IdleTime: time.Hour})
				r.wait(5 * time.Second)
				g.with(func() { g.down = true })
				before := time.Now()
				require.Equal(t, "i-1", r.acquire("a", time.Minute).InstanceID())
				require.Zero(t, time.Since(before))
				r.wait(time.Minute)
				require.Empty(t, g.deletions())
			})
		})
	}
}

func TestAnInstanceThatRecoversIsUsedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 1)
		r := start(t, g, WithFailureThreshold(100))
		r.schedule(Schedule{IdleCount: 1, PreemptiveMode: true})
		r.wait(5 * time.Second)
		g.with(func() { g.sick["i-1"] = true })

		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := r.Acquire(ctx, "a")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, r.Reserve("a"), "unhealthy:1")

		g.with(func() { g.sick["i-1"] = false })
		r.wait(10 * time.Second)
		require.NoError(t, r.Reserve("a"), "nobody had to acquire it for that")
		r.release(r.acquire("a", time.Second))
		require.Equal(t, 1, g.total())
	})
}

func TestARunningTaskKeepsAnUnhealthyInstance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithCapacityPerInstance(2))
		r.schedule(Schedule{IdleTime: time.Hour})
		a := r.acquire("a", time.Minute)
		g.with(func() { g.sick["i-1"] = true })
		b := r.acquire("b", time.Minute)
		require.Equal(t, "i-2", b.InstanceID())
		r.wait(time.Hour)
		require.Empty(t, g.deletions())
		r.release(a)
		r.wait(time.Second)
		require.Equal(t, []string{"i-1"}, g.deletions())
	})
}

func TestAHeartbeatThatHangsIsAFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithFailureThreshold(1), WithHeartbeatFunc(func(ctx context.Context, info provider.ConnectInfo) error {
			if info.ID == "i-1" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}))
		before := time.Now()
		require.Equal(t, "i-2", r.acquire("a", time.Hour).InstanceID())
		require.InDelta(t, 30, time.Since(before).Seconds(), 3)
		require.Contains(t, strings.Join(r.journal.lines(), "\n"), "health check took longer than 30s: context deadline exceeded")
	})
}

func TestTheEndOfAnAcquireIsNoFailureOfTheInstance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 1)
		var slow atomic.Bool
		slow.Store(true)
		r := start(t, g, WithFailureThreshold(1), WithMaxUseCount(1), WithHeartbeatFunc(func(ctx context.Context, _ provider.ConnectInfo) error {
			if slow.Load() {
				<-ctx.Done()
			}
			return ctx.Err()
		}))
		r.schedule(Schedule{IdleCount: 1})
		r.wait(time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := r.Acquire(ctx, "a")
		require.Equal(t, context.DeadlineExceeded, err)
		slow.Store(false)
		require.Equal(t, "i-1", r.acquire("b", time.Second).InstanceID(), "neither a failure nor a use")
	})
}

func TestAFailedPreparationIsLoggedAndTheInstanceRemoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		var fail atomic.Bool
		fail.Store(true)
		r := start(t, g, WithInstanceUpFunc(func(_ Taskscaler, instance UpFuncInstance) error {
			time.Sleep(7 * time.Second)
			if fail.Swap(false) {
				return errTest
			}
			return nil
		}))
		r.schedule(Schedule{IdleCount: 1, IdleTime: time.Hour})
		r.wait(time.Minute)
		require.Equal(t, []string{"i-2"}, g.ids())
		require.Equal(t, []string{"error ready up preparation failed err=it failed instance=i-1 took=7e+09"}, r.journal.lines("ready up preparation failed"))
		require.Equal(t, []string{"info instance marked for removal instance=i-1 reason=instance ready up preparation failed"}, r.journal.lines("instance marked for removal"))
		require.Equal(t, []string{"info instance is ready instance=i-2 took=7e+09"}, r.journal.lines("instance is ready"))
	})
}

func TestABrokenImageCreatesABoundedNumberOfInstancesPerHour(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 100)
		g.bootTime = 20 * time.Second
		var broken atomic.Bool
		broken.Store(true)
		r := start(t, g, WithInstanceUpFunc(func(Taskscaler, UpFuncInstance) error {
			if broken.Load() {
				return errTest
			}
			return nil
		}))
		r.schedule(Schedule{IdleCount: 50, IdleTime: time.Hour})
		r.wait(time.Hour)
		first := g.total()
		require.LessOrEqual(t, first, 2*50+20)
		r.wait(time.Hour)
		require.LessOrEqual(t, g.total()-first, 13)
		require.Contains(t, strings.Join(r.journal.lines("creation of instances held back"), "\n"), "reason=instances do not become ready")

		broken.Store(false)
		r.wait(10 * time.Minute)
		require.Len(t, g.ids(), 50, "a success ends it")
	})
}

func TestInstancesThatVanishBeforeTheyAreReadyAreNotCreatedWithoutEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 100)
		g.bootTime = time.Hour
		r := start(t, g)
		r.schedule(Schedule{IdleCount: 10, IdleTime: time.Hour})
		for range 3600 {
			r.wait(time.Second)
			for _, id := range g.ids() {
				g.vanish(id)
			}
		}
		require.Less(t, g.total(), 50)
	})
}

func TestAGroupThatRefusesIsAskedLessAndLess(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 100)
		g.refuse = true
		r := start(t, g)
		r.schedule(Schedule{IdleCount: 10, IdleTime: time.Hour})
		r.wait(time.Hour)
		require.Less(t, g.count("Increase"), 80)
		g.with(func() { g.refuse = false })
		r.wait(2 * time.Minute)
		require.Len(t, g.ids(), 10)
	})
}

func TestPreparationsRunSideBySideAndDoNotHoldUpTheScaler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 20)
		r := start(t, g, WithInstanceUpFunc(func(ts Taskscaler, instance UpFuncInstance) error {
			ts.Release("somebody")
			_, _ = ts.Capacity()
			if instance.ID != "i-1" {
				time.Sleep(time.Minute)
			}
			return nil
		}))
		r.schedule(Schedule{IdleCount: 10, IdleTime: time.Hour})
		r.wait(10 * time.Second)
		require.Equal(t, "i-1", r.acquire("a", time.Second).InstanceID())
		r.wait(2 * time.Minute)
		available, _ := r.Capacity()
		require.Equal(t, 10, available)
	})
}

func TestConnectInfoOfANewInstanceIsAskedForAgainWhenItFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		g.mute = true
		prepared := make(chan UpFuncInstance, 10)
		r := start(t, g, WithInstanceUpFunc(func(_ Taskscaler, instance UpFuncInstance) error {
			prepared <- instance
			return nil
		}))
		r.schedule(Schedule{IdleCount: 1, IdleTime: time.Hour})
		r.wait(10 * time.Second)
		g.with(func() { g.mute = false })
		r.wait(10 * time.Second)
		instance := <-prepared
		require.Equal(t, "i-1", instance.ID)
		require.Equal(t, "192.0.2.1", instance.Info.InternalAddr)
		require.False(t, instance.Restored)
		require.EqualValues(t, "requested", instance.Cause)

		g.with(func() { g.mute = true })
		r.schedule(Schedule{IdleCount: 2, IdleTime: time.Hour})
		r.wait(time.Minute)
		require.Contains(t, g.deletions(), "i-2", "not for ever")
	})
}

func TestAnOfferOfAnInstanceThatIsLostMeanwhileIsReplacedByAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithUpdateInterval(time.Second), WithHeartbeatFunc(func(_ context.Context, info provider.ConnectInfo) error {
			if info.ID == "i-1" {
				g.vanish("i-1")
				time.Sleep(10 * time.Second)
			}
			return nil
		}))
		a := r.acquire("a", time.Minute)
		require.Equal(t, "i-2", a.InstanceID())
		r.release(a)
	})
}
