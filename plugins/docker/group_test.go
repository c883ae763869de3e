package docker

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// started returns an initialised group on an engine, which the end of the test shuts down.
func started(t testing.TB, e *fakeEngine, config Config, connector provider.ConnectorConfig) *InstanceGroup {
	t.Helper()
	g := &InstanceGroup{Config: config, engine: e}
	_, err := g.Init(t.Context(), hclog.NewNullLogger(), provider.Settings{ConnectorConfig: connector})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.Shutdown(context.Background())) })
	return g
}

// states updates the group.
func states(t testing.TB, g *InstanceGroup) map[string]provider.State {
	t.Helper()
	seen := map[string]provider.State{}
	require.NoError(t, g.Update(context.Background(), func(id string, state provider.State) {
		require.NotContains(t, seen, id)
		seen[id] = state
	}))
	return seen
}

// grown returns a group with one instance that is up.
func grown(t testing.TB, e *fakeEngine, config Config) (*InstanceGroup, string) {
	t.Helper()
	g := started(t, e, config, provider.ConnectorConfig{})
	n, err := g.Increase(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	synctest.Wait()
	return g, onlyInstance(t, g, provider.StateRunning)
}

func onlyInstance(t testing.TB, g *InstanceGroup, want provider.State) string {
	t.Helper()
	seen := states(t, g)
	require.Len(t, seen, 1)
	for id, state := range seen {
		require.Equal(t, want, state)
		return id
	}
	return ""
}

func TestAnInstanceIsCreatingUntilItIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		e.mute = true
		g := started(t, e, Config{Name: "crew"}, provider.ConnectorConfig{})
		n, err := g.Increase(t.Context(), 3)
		require.NoError(t, err)
		require.Equal(t, 3, n)
		synctest.Wait()

		seen := states(t, g)
		require.Len(t, seen, 3)
		for id, state := range seen {
			require.True(t, strings.HasPrefix(id, "crew-"), id)
			require.Equal(t, provider.StateCreating, state)
			e.with(id, func(c *fakeContainer) { c.print("instance: ready") })
		}
		synctest.Wait()
		for _, state := range states(t, g) {
			require.Equal(t, provider.StateRunning, state)
		}
	})
}

func TestIncreaseStopsAtTheSizeOfTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g := started(t, e, Config{MaxSize: 2}, provider.ConnectorConfig{})
		n, err := g.Increase(t.Context(), 3)
		require.ErrorContains(t, err, "has room for 2 of 3 more instances (max_size 2)")
		require.Equal(t, 2, n)
		n, err = g.Increase(t.Context(), 1)
		require.Error(t, err)
		require.Zero(t, n)

		synctest.Wait()
		_, err = g.Decrease(t.Context(), e.instances()[:1])
		require.NoError(t, err)
		n, err = g.Increase(t.Context(), 1)
		require.NoError(t, err, "an instance that is being deleted takes no room")
		require.Equal(t, 1, n)
	})
}

func TestIncreaseCountsWhatWasCreatedDespiteAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g := started(t, e, Config{}, provider.ConnectorConfig{})
		tries := 0
		e.fail = func(operation, _ string) error {
			if operation == "create" {
				if tries++; tries == 2 {
					return errors.New("no space left")
				}
			}
			return nil
		}
		n, err := g.Increase(t.Context(), 3)
		require.ErrorContains(t, err, "no space left")
		require.Equal(t, 2, n)
		synctest.Wait()
		require.Len(t, states(t, g), 2)
	})
}

func TestIncreaseByNothingAsksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g := started(t, e, Config{}, provider.ConnectorConfig{})
		e.fail = func(string, string) error { return errors.New("asked") }
		for _, n := range []int{0, -1} {
			succeeded, err := g.Increase(t.Context(), n)
			require.NoError(t, err)
			require.Zero(t, succeeded)
		}
		e.fail = nil
	})
}

func TestAnInstanceThatDoesNotBootIsRemovedAndExplained(t *testing.T) {
	tests := map[string]struct {
		prepare func(e *fakeEngine)
		want    string
	}{
		"it ends": {
			prepare: func(e *fakeEngine) { e.crash = "instance: the engine ended" },
			want:    "it ended during its boot: instance: the engine ended",
		},
		"it hangs": {
			prepare: func(e *fakeEngine) { e.mute = true },
			want:    "it did not boot within 2m0s",
		},
		"its container does not start": {
			prepare: func(e *fakeEngine) {
				e.fail = func(operation, name string) error {
					if operation == "start" && !strings.Contains(name, "probe") {
						return errors.New("no such network")
					}
					return nil
				}
			},
			want: "starting its container: no such network",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newFakeEngine()
				tt.prepare(e)
				var log bytes.Buffer
				g := &InstanceGroup{engine: e}
				_, err := g.Init(t.Context(), hclog.New(&hclog.LoggerOptions{Output: &log}), provider.Settings{})
				require.NoError(t, err)
				_, err = g.Increase(t.Context(), 1)
				require.NoError(t, err)
				g.work.Wait()
				require.Empty(t, states(t, g))
				require.Empty(t, e.instances())
				require.Contains(t, log.String(), tt.want)
				require.NoError(t, g.Shutdown(t.Context()))
			})
		})
	}
}

func TestAKilledInstanceIsReportedAndRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})
		e.with(id, func(c *fakeContainer) { c.end(137) })
		require.Equal(t, provider.StateDeleting, states(t, g)[id])
		synctest.Wait()
		require.Empty(t, states(t, g))
		require.Equal(t, []string{id}, e.removed[len(e.removed)-1:])
	})
}

func TestAnInstanceThatSomebodyRemovedIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})
		require.NoError(t, e.Remove(t.Context(), id))
		require.Empty(t, states(t, g))
		require.ErrorIs(t, g.Heartbeat(t.Context(), id), provider.ErrInstanceUnhealthy)
		require.Empty(t, g.lives.all())
	})
}

func TestAListingThatFailsIsNoSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, _ := grown(t, e, Config{})
		e.fail = func(string, string) error { return errors.New("no such socket") }
		err := g.Update(t.Context(), func(string, provider.State) { t.Error("reported") })
		require.ErrorContains(t, err, "no such socket")
		e.fail = nil
	})
}

// An outdated listing shows the container as not started when the instance has come up already.
func TestAnInstanceThatComesUpDuringAListingIsNotTakenForDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g := started(t, e, Config{}, provider.ConnectorConfig{})
		release := make(chan struct{})
		e.fail = func(operation, _ string) error {
			if operation == "put" {
				e.mu.Unlock()
				<-release
				e.mu.Lock()
			}
			return nil
		}
		_, err := g.Increase(t.Context(), 1)
		require.NoError(t, err)
		e.listed = func() {
			close(release)
			synctest.Wait()
			e.listed = nil
		}
		id := onlyInstance(t, g, provider.StateCreating)
		require.Equal(t, provider.StateRunning, states(t, g)[id])
		require.Len(t, e.instances(), 1)
	})
}

func TestDecreaseRemovesExactlyTheseInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g := started(t, e, Config{Name: "a"}, provider.ConnectorConfig{})
		other := started(t, e, Config{Name: "b"}, provider.ConnectorConfig{})
		for _, group := range []*InstanceGroup{g, other} {
			_, err := group.Increase(t.Context(), 2)
			require.NoError(t, err)
		}
		synctest.Wait()
		all := e.instances()

		gone, err := g.Decrease(t.Context(), []string{all[0], all[2], "a-unknown"})
		require.NoError(t, err)
		require.Equal(t, []string{all[0], all[2], "a-unknown"}, gone, "what is not there counts as deleted")
		synctest.Wait()
		require.Equal(t, []string{all[1], all[2], all[3]}, e.instances(), "another group's instance stays")
		require.Len(t, states(t, g), 1)
		require.Len(t, states(t, other), 2)
	})
}

func TestADeletionThatFailsCanBeAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})
		e.fail = func(operation, _ string) error {
			if operation == "remove" {
				return errors.New("device is busy")
			}
			return nil
		}
		_, err := g.Decrease(t.Context(), []string{id})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, provider.StateRunning, states(t, g)[id])

		e.fail = nil
		_, err = g.Decrease(t.Context(), []string{id})
		require.NoError(t, err)
		synctest.Wait()
		require.Empty(t, states(t, g))
	})
}

func TestAnInstanceCanBeDeletedWhileItBoots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		e.mute = true
		g := started(t, e, Config{}, provider.ConnectorConfig{})
		_, err := g.Increase(t.Context(), 1)
		require.NoError(t, err)
		synctest.Wait()
		_, err = g.Decrease(t.Context(), e.instances())
		require.NoError(t, err)
		synctest.Wait()
		require.Empty(t, states(t, g))
		require.Empty(t, g.lives.all())
	})
}
