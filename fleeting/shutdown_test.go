package fleeting_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestShutdownLeavesTheInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := &dummy.InstanceGroup{Preexisting: 2}
		p := start(t, group)
		begin := time.Now()
		p.Shutdown(t.Context())
		require.Zero(t, time.Since(begin))
		require.Len(t, group.List(), 2)
		require.Equal(t, 1, group.CallCount("Shutdown"))
		require.Equal(t, 1, group.CallCount("Update"))
		p.Instances()[0].Delete()
		require.False(t, p.Instances()[0].ReadyWait(t.Context()), "nobody watches it any more")
		time.Sleep(time.Hour)
		require.Zero(t, group.CallCount("Decrease"))
	})
}

func TestShutdownDeletesIfAskedTo(t *testing.T) {
	inBubble(t, "all but the suspended", func(t *testing.T) {
		group, told := &dummy.InstanceGroup{Preexisting: 3}, &events{}
		group.Add("asleep", provider.StateSuspended)
		p := start(t, group, fleeting.WithDeleteInstancesOnShutdown(), fleeting.WithSubscriber(told.subscriber))
		begin := time.Now()
		p.Shutdown(t.Context())
		require.Less(t, time.Since(begin), fleeting.DefaultShutdownDeletionInterval, "no longer than it takes")
		require.Equal(t, []dummy.Instance{{ID: "asleep", State: provider.StateSuspended}}, group.List())
		require.Contains(t, told.take(), "dummy-3 deleted")
		require.Equal(t, 1, group.CallCount("Decrease"))
		require.Equal(t, 1, group.CallCount("Shutdown"))
	})
	inBubble(t, "what was created meanwhile as well", func(t *testing.T) {
		group := &dummy.InstanceGroup{}
		p := start(t, group, fleeting.WithDeleteInstancesOnShutdown())
		p.Request(2)
		synctest.Wait()
		require.Equal(t, 2, p.Capacity().Pending)
		p.Shutdown(t.Context())
		require.Empty(t, group.List())
	})
	inBubble(t, "in a limited number of attempts", func(t *testing.T) {
		group := &dummy.InstanceGroup{Preexisting: 1}
		group.Add("wedged", provider.StateRunning)
		group.SetState("wedged", provider.StateRunning, true)
		p := start(t, group, fleeting.WithDeleteInstancesOnShutdown(),
			fleeting.WithShutdownDeletionInterval(5*time.Second), fleeting.WithShutdownDeletionRetries(4))
		begin := time.Now()
		p.Shutdown(t.Context())
		require.Equal(t, 20*time.Second, time.Since(begin))
		require.Equal(t, 4, group.CallCount("Decrease"))
		require.Len(t, group.List(), 1)
	})
	inBubble(t, "even when the updates fail", func(t *testing.T) {
		group := &dummy.InstanceGroup{Preexisting: 1, Faults: map[string]dummy.Fault{"Update": {Error: "no", Skip: 1}}}
		p := start(t, group, fleeting.WithDeleteInstancesOnShutdown())
		p.Shutdown(t.Context())
		require.GreaterOrEqual(t, group.CallCount("Decrease"), 1)
	})
	inBubble(t, "no longer than the context lasts", func(t *testing.T) {
		group := &dummy.InstanceGroup{}
		group.Add("wedged", provider.StateRunning)
		group.SetState("wedged", provider.StateRunning, true)
		p := start(t, group, fleeting.WithDeleteInstancesOnShutdown())
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		begin := time.Now()
		p.Shutdown(ctx)
		require.Equal(t, 3*time.Second, time.Since(begin))
		require.Equal(t, 1, group.CallCount("Shutdown"), "the group cleans up in any case")
	})
}

func TestShutdownLetsACallFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Increase": {Delay: 8 * time.Second}}}
		p := start(t, group, fleeting.WithDeleteInstancesOnShutdown())
		p.Request(1)
		synctest.Wait()
		p.Shutdown(t.Context())
		require.Empty(t, group.List(), "its instance is known and deleted")
		require.Equal(t, 1, group.CallCount("Decrease"))
	})
}

func TestShutdownCutsALongCallShort(t *testing.T) {
	inBubble(t, "after a grace", func(t *testing.T) {
		group := &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Increase": {Hang: true}}}
		p := start(t, group)
		p.Request(1)
		synctest.Wait()
		begin := time.Now()
		p.Shutdown(t.Context())
		require.Equal(t, 10*time.Second, time.Since(begin))
		require.Equal(t, 1, group.CallCount("Shutdown"))
	})
	inBubble(t, "at the end of the context", func(t *testing.T) {
		group := &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Increase": {Hang: true}, "Shutdown": {Hang: true}}}
		p := start(t, group)
		p.Request(1)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		p.Shutdown(ctx)
		require.Equal(t, 6*time.Second, time.Since(begin), "the group's own shutdown has its time")
	})
}
