package docker

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// first returns a group of a process that will end before the test does.
func first(t *testing.T, e *fakeEngine) *InstanceGroup {
	t.Helper()
	g := &InstanceGroup{engine: e}
	_, err := g.Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
	require.NoError(t, err)
	_, err = g.Increase(t.Context(), 1)
	require.NoError(t, err)
	return g
}

func TestARestartedPluginKeepsItsInstancesAndGivesThemItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		before := first(t, e)
		synctest.Wait()
		id := onlyInstance(t, before, provider.StateRunning)
		old, err := before.ConnectInfo(t.Context(), id)
		require.NoError(t, err)
		require.NoError(t, before.Shutdown(t.Context()))

		g := started(t, e, Config{}, provider.ConnectorConfig{})
		require.Equal(t, id, onlyInstance(t, g, provider.StateRunning), "running at once")
		info, err := g.ConnectInfo(t.Context(), id)
		require.NoError(t, err)
		require.NotEqual(t, old.Key, info.Key)
		require.Equal(t, old.HostKeys, info.HostKeys)
		require.Equal(t, g.key.Public+"\n", string(e.containers[id].files[authorizedKeysPath].content))

		e.fail = func(operation, _ string) error {
			require.NotEqual(t, "put", operation, "once is enough")
			return nil
		}
		_, err = g.ConnectInfo(t.Context(), id)
		require.NoError(t, err)
	})
}

func TestARestartedPluginWaitsForAnInstanceThatBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		e.mute = true
		before := first(t, e)
		synctest.Wait()
		require.NoError(t, before.Shutdown(t.Context()))
		require.Len(t, e.instances(), 1, "it boots on")

		g := started(t, e, Config{}, provider.ConnectorConfig{})
		id := onlyInstance(t, g, provider.StateCreating)
		e.with(id, func(c *fakeContainer) { c.print(readyLine) })
		synctest.Wait()
		onlyInstance(t, g, provider.StateRunning)
	})
}

func TestShutdownRemovesInstancesThatWereNotStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		e.fail = func(operation, _ string) error {
			if operation == "put" {
				e.mu.Unlock()
				synctest.Wait()
				e.mu.Lock()
				return context.Canceled
			}
			return nil
		}
		g := first(t, e)
		require.NoError(t, g.Shutdown(t.Context()))
		require.Empty(t, e.instances())
	})
}

func TestARestartedPluginRemovesWhatItCannotUse(t *testing.T) {
	for _, state := range []string{containerCreated, containerExited, containerDead} {
		t.Run(state, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newFakeEngine()
				before := first(t, e)
				synctest.Wait()
				id := onlyInstance(t, before, provider.StateRunning)
				require.NoError(t, before.Shutdown(t.Context()))
				e.with(id, func(c *fakeContainer) { c.state = state })

				g := started(t, e, Config{}, provider.ConnectorConfig{})
				onlyInstance(t, g, provider.StateDeleting)
				synctest.Wait()
				require.Empty(t, states(t, g))
			})
		})
	}
}

func TestAProbeThatAFormerProcessLeftIsRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		_, err := e.Create(t.Context(), spec{
			name: "left", labels: map[string]string{labelGroup: defaultName, labelRole: roleProbe},
		})
		require.NoError(t, err)
		started(t, e, Config{}, provider.ConnectorConfig{})
		require.Empty(t, e.containers)
	})
}

func TestShutdownDoesNotOutliveItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g := first(t, e)
		synctest.Wait()
		id := onlyInstance(t, g, provider.StateRunning)
		release := make(chan struct{})
		e.fail = func(operation, _ string) error {
			if operation == "remove" {
				e.mu.Unlock()
				<-release
				e.mu.Lock()
			}
			return nil
		}
		_, err := g.Decrease(t.Context(), []string{id})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorContains(t, g.Shutdown(ctx), "waiting for containers to be removed")
		close(release)
		g.work.Wait()
		require.Empty(t, e.instances())
	})
}
