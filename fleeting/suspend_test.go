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

func suspendable(t *testing.T) (*dummy.InstanceGroup, *fleeting.Provisioner, fleeting.Instance, *events) {
	t.Helper()
	group, told := &dummy.InstanceGroup{
		Preexisting: 1, Capabilities: []provider.Capability{provider.CapabilitySuspendResume},
	}, &events{}
	p := start(t, group, fleeting.WithMaxSize(1), fleeting.WithSubscriber(told.subscriber))
	synctest.Wait()
	told.take()
	return group, p, p.Instances()[0], told
}

func TestSuspendAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group, p, i, told := suspendable(t)
		i.Suspend()
		i.Suspend()
		time.Sleep(3 * time.Second)
		require.Equal(t, provider.StateSuspended, i.State())
		require.Equal(t, fleeting.Capacity{Max: 1, Suspended: 1}, p.Capacity())
		p.Request(1)
		time.Sleep(10 * time.Minute)
		require.Zero(t, group.CallCount("Increase"), "a suspended instance keeps its place")
		require.LessOrEqual(t, group.CallCount("Update"), 15, "it rests")

		require.NoError(t, i.Resume(t.Context()))
		require.Equal(t, provider.StateRunning, i.State())
		require.True(t, i.ReadyWait(t.Context()))
		require.NoError(t, i.Resume(t.Context()), "a running instance is resumed")
		require.Equal(t, 1, group.CallCount("Suspend"))
		require.Equal(t, 1, group.CallCount("Resume"))
		require.Equal(t, []string{"dummy-1 suspending", "dummy-1 suspended", "dummy-1 resuming", "dummy-1 running"}, told.take())
	})
}

func TestResumeWaitsForTheSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group, _, i, _ := suspendable(t)
		i.Suspend()
		synctest.Wait()
		group.SetState("dummy-1", provider.StateSuspending, true)
		time.AfterFunc(time.Minute, func() { group.SetState("dummy-1", provider.StateSuspending, false) })
		begin := time.Now()
		require.NoError(t, i.Resume(t.Context()))
		require.GreaterOrEqual(t, time.Since(begin), time.Minute)
		require.Equal(t, 1, group.CallCount("Resume"))
	})
}

func TestResumeFails(t *testing.T) {
	inBubble(t, "when the group refuses", func(t *testing.T) {
		group, _, i, _ := suspendable(t)
		i.Suspend()
		time.Sleep(3 * time.Second)
		group.SetFault("Resume", dummy.Fault{Error: "no host has room", Calls: 1})
		require.ErrorContains(t, i.Resume(t.Context()), "no host has room")
		require.Equal(t, provider.StateSuspended, i.State())
		require.NoError(t, i.Resume(t.Context()))
	})
	inBubble(t, "when it stays suspended", func(t *testing.T) {
		group, _, i, _ := suspendable(t)
		i.Suspend()
		time.Sleep(3 * time.Second)
		group.SetState("dummy-1", provider.StateSuspended, true)
		require.ErrorContains(t, i.Resume(t.Context()), `resume instance "dummy-1": the group failed to start it`)
	})
	inBubble(t, "when the suspension does not end", func(t *testing.T) {
		group, _, i, _ := suspendable(t)
		i.Suspend()
		synctest.Wait()
		group.SetState("dummy-1", provider.StateSuspending, true)
		require.ErrorContains(t, i.Resume(t.Context()), "its suspension does not end")
	})
	inBubble(t, "when it is deleted", func(t *testing.T) {
		_, _, i, _ := suspendable(t)
		i.Suspend()
		time.Sleep(3 * time.Second)
		i.Delete()
		require.ErrorContains(t, i.Resume(t.Context()), "gone")
		time.Sleep(time.Minute)
		require.ErrorContains(t, i.Resume(t.Context()), "gone")
	})
	inBubble(t, "when the context ends", func(t *testing.T) {
		group, _, i, _ := suspendable(t)
		i.Suspend()
		synctest.Wait()
		group.SetState("dummy-1", provider.StateSuspending, true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, i.Resume(ctx), context.DeadlineExceeded)
	})
	inBubble(t, "when the provisioner ends", func(t *testing.T) {
		group, p, i, _ := suspendable(t)
		i.Suspend()
		synctest.Wait()
		group.SetState("dummy-1", provider.StateSuspending, true)
		time.AfterFunc(time.Second, func() { p.Shutdown(context.Background()) })
		require.ErrorContains(t, i.Resume(t.Context()), "shut down")
	})
	inBubble(t, "without the capability", func(t *testing.T) {
		group := &dummy.InstanceGroup{Preexisting: 1}
		i := start(t, group).Instances()[0]
		i.Suspend()
		time.Sleep(time.Minute)
		require.Equal(t, provider.StateRunning, i.State())
		require.ErrorIs(t, i.Resume(t.Context()), provider.ErrSuspendResumeNotSupported)
		require.Zero(t, group.CallCount("Suspend"))
	})
}

func TestRefusedSuspensionIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group, _, i, told := suspendable(t)
		group.SetFault("Suspend", dummy.Fault{Error: "not now", Calls: 1})
		i.Suspend()
		time.Sleep(time.Minute)
		require.Equal(t, []string{"dummy-1 running"}, told.take())
		require.Equal(t, 1, group.CallCount("Suspend"))
	})
}
