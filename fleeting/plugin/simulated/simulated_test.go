package simulated_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/plugin/simulated"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func update(t *testing.T, g *simulated.Group) map[string]provider.State {
	t.Helper()
	states := map[string]provider.State{}
	require.NoError(t, g.Update(t.Context(), func(id string, s provider.State) { states[id] = s }))
	return states
}

func TestInstancesLiveInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := simulated.New(simulated.Config{
			MaxSize: 2, Preexisting: 1, BootTime: time.Minute, StopTime: 20 * time.Second, ListDelay: 5 * time.Second,
			Latency: time.Second, Capabilities: []provider.Capability{provider.CapabilitySuspendResume},
		})
		info, err := g.Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
		require.NoError(t, err)
		require.Equal(t, 2, info.MaxSize)
		begin := time.Now()
		n, err := g.Increase(t.Context(), 2)
		require.Equal(t, 1, n)
		require.ErrorContains(t, err, "full")
		require.Equal(t, time.Second, time.Since(begin))
		require.Equal(t, map[string]provider.State{"sim-1": provider.StateRunning}, update(t, g), "not listed yet")
		time.Sleep(5 * time.Second)
		require.Equal(t, provider.StateCreating, update(t, g)["sim-2"])
		time.Sleep(time.Minute)
		require.Equal(t, provider.StateRunning, update(t, g)["sim-2"])
		require.NoError(t, g.Heartbeat(t.Context(), "sim-2"))

		_, err = g.Suspend(t.Context(), []string{"sim-2"})
		require.NoError(t, err)
		require.ErrorIs(t, g.Heartbeat(t.Context(), "sim-2"), provider.ErrInstanceUnhealthy)
		time.Sleep(20 * time.Second)
		require.Equal(t, provider.StateSuspended, update(t, g)["sim-2"])
		_, err = g.Resume(t.Context(), []string{"sim-2"})
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.Equal(t, provider.StateRunning, update(t, g)["sim-2"])

		ids, err := g.Decrease(t.Context(), []string{"sim-1", "sim-2", "gone"})
		require.NoError(t, err)
		require.Len(t, ids, 3)
		require.Equal(t, provider.StateDeleting, update(t, g)["sim-1"])
		time.Sleep(20 * time.Second)
		require.Empty(t, update(t, g))
		stats := g.Stats()
		require.Equal(t, 2, stats.Created)
		require.Equal(t, 2, stats.Deleted)
		require.Equal(t, 2, stats.Peak)
		require.Equal(t, 1, stats.Calls["Decrease"])
	})
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := simulated.New(simulated.Config{RateLimit: 2})
		failed := 0
		for range 30 {
			if err := g.Shutdown(t.Context()); err != nil {
				require.ErrorContains(t, err, "rate limit")
				failed++
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, failed, g.Stats().RateLimited)
		require.InDelta(t, 22, failed, 2, "two at once and two per second of three")
	})
}

func TestChancesAreRepeatable(t *testing.T) {
	run := func(t *testing.T, seed uint64) (stats simulated.Stats) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			g := simulated.New(simulated.Config{BootTime: time.Second, BootJitter: time.Minute, CallFailureRate: 0.3,
				LostAnswerRate: 0.3, StuckBootRate: 0.1, FailedBootRate: 0.1, HeartbeatFailureRate: 0.1, Seed: seed})
			for range 50 {
				_, _ = g.Increase(t.Context(), 2)
				_ = g.Heartbeat(t.Context(), "sim-1")
				time.Sleep(time.Second)
			}
			time.Sleep(time.Hour)
			g.Instances()
			stats = g.Stats()
		})
		return stats
	}
	first := run(t, 1)
	require.Equal(t, first, run(t, 1))
	require.NotEqual(t, first, run(t, 2))
	require.Positive(t, first.Failed)
	require.Positive(t, first.Deleted, "failed boots end")
}

func TestCallsEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := simulated.New(simulated.Config{BootTime: time.Hour, BlockingIncrease: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n, err := g.Increase(ctx, 3)
		require.Equal(t, 3, n)
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
