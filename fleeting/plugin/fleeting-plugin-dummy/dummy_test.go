package dummy_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func update(t *testing.T, g *dummy.InstanceGroup) map[string]provider.State {
	t.Helper()
	states := map[string]provider.State{}
	require.NoError(t, g.Update(t.Context(), func(id string, s provider.State) { states[id] = s }))
	return states
}

func TestInstancesLiveFromUpdateToUpdate(t *testing.T) {
	g := &dummy.InstanceGroup{MaxSize: 2, Capabilities: []provider.Capability{provider.CapabilitySuspendResume}}
	info, err := g.Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
	require.NoError(t, err)
	require.Equal(t, 2, info.MaxSize)
	n, err := g.Increase(t.Context(), 3)
	require.Equal(t, 2, n)
	require.ErrorContains(t, err, "full")
	require.Equal(t, []dummy.Instance{{ID: "dummy-1", State: provider.StateCreating}, {ID: "dummy-2", State: provider.StateCreating}}, g.List())
	require.Equal(t, map[string]provider.State{"dummy-1": provider.StateRunning, "dummy-2": provider.StateRunning}, update(t, g))

	_, err = g.Suspend(t.Context(), []string{"dummy-1"})
	require.NoError(t, err)
	require.Equal(t, provider.StateSuspended, update(t, g)["dummy-1"])
	require.ErrorIs(t, g.Heartbeat(t.Context(), "dummy-1"), provider.ErrInstanceUnhealthy)
	_, err = g.Resume(t.Context(), []string{"dummy-1"})
	require.NoError(t, err)
	require.Equal(t, provider.StateRunning, update(t, g)["dummy-1"])
	ids, err := g.Decrease(t.Context(), []string{"dummy-1", "nobody"})
	require.Equal(t, []string{"dummy-1"}, ids)
	require.ErrorContains(t, err, "nobody")
	require.Equal(t, map[string]provider.State{"dummy-2": provider.StateRunning}, update(t, g))
	require.Equal(t, 1, g.CallCount("Decrease"))
	require.Zero(t, g.CallCount("Shutdown"))
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &dummy.InstanceGroup{}
		g.SetFault("Increase", dummy.Fault{Skip: 1, Calls: 2, Delay: time.Minute, Error: "no"})
		for i, want := range []string{"", "no", "no", ""} {
			begin := time.Now()
			_, err := g.Increase(t.Context(), 1)
			if want == "" {
				require.NoError(t, err, "call %d", i)
				require.Zero(t, time.Since(begin))
				continue
			}
			require.EqualError(t, err, want, "call %d", i)
			require.Equal(t, time.Minute, time.Since(begin))
		}
		g.SetFault("Update", dummy.Fault{Hang: true})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Update(ctx, nil), context.DeadlineExceeded)
		g.SetFault("Update", dummy.Fault{Panic: "bang"})
		require.PanicsWithValue(t, "bang", func() { _ = g.Update(t.Context(), nil) })
	})
}
