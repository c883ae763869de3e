package docker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func newSeeds(e *fakeEngine) *seeds {
	privileged := false
	return &seeds{
		engine:        e,
		log:           hclog.NewNullLogger(),
		shape:         shape{name: "crew", image: defaultImage, images: []string{"busybox"}, privileged: &privileged},
		instanceImage: "sha256:instance",
	}
}

func TestAStoreIsFilledOnceWhoeverWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		var wanted sync.WaitGroup
		for range 5 {
			wanted.Go(func() {
				name, err := newSeeds(e).ensure(t.Context())
				require.NoError(t, err)
				require.NotEmpty(t, name)
			})
		}
		wanted.Wait()
		require.Len(t, e.full, 1)
		for _, times := range e.full {
			require.Equal(t, 1, times)
		}
		require.Empty(t, e.containers)
	})
}

func TestAStoreIsRenewedWithItsImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		before, err := newSeeds(e).ensure(t.Context())
		require.NoError(t, err)
		e.images["busybox"] = image{id: "sha256:newer"}
		after, err := newSeeds(e).ensure(t.Context())
		require.NoError(t, err)
		require.NotEqual(t, before, after)
		require.Len(t, e.full, 2)
	})
}

func TestTheContainerOfAProcessThatDiedIsClearedAway(t *testing.T) {
	for _, state := range []string{containerCreated, containerExited, containerDead} {
		t.Run(state, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newFakeEngine()
				s := newSeeds(e)
				name, err := s.name(t.Context())
				require.NoError(t, err)
				_, err = e.Create(t.Context(), spec{name: name, seed: "half", fillSeed: true})
				require.NoError(t, err)
				e.with(name, func(c *fakeContainer) { c.state, c.ended = state, time.Now() })

				data, err := s.ensure(t.Context())
				require.NoError(t, err)
				require.NotEqual(t, "half", data)
				require.Equal(t, 1, e.full[data])
				require.Empty(t, e.containers)
			})
		})
	}
}

func TestWaitingForAnotherProcessEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		s := newSeeds(e)
		name, err := s.name(t.Context())
		require.NoError(t, err)
		_, err = e.Create(t.Context(), spec{name: name, seed: "slow", fillSeed: true})
		require.NoError(t, err)
		e.with(name, func(c *fakeContainer) { c.state = containerRunning })
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute+seedPoll/2, errors.New("enough"))
		defer cancel()
		_, err = s.ensure(ctx)
		require.ErrorContains(t, err, "waiting for another process to fill image store "+name+": enough")
		require.Len(t, e.containers, 1)
	})
}

func TestAStoreThatCannotBeFilledLeavesNothing(t *testing.T) {
	tests := map[string]func(e *fakeEngine){
		"the image refuses": func(e *fakeEngine) { e.fillStatus = 3 },
		"the archive breaks": func(e *fakeEngine) {
			e.fail = func(operation, _ string) error {
				if operation == "save" {
					return errors.New("broken")
				}
				return nil
			}
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newFakeEngine()
				prepare(e)
				_, err := newSeeds(e).ensure(t.Context())
				require.ErrorContains(t, err, "filling image store fleeting-seed-")
				require.Empty(t, e.containers)
				require.Empty(t, e.volumes)
			})
		})
	}
}

func TestOldStoresThatNobodyUsesAreRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		s := newSeeds(e)
		current, err := s.ensure(t.Context())
		require.NoError(t, err)
		for _, name := range []string{"used", "unused"} {
			e.addVolume(name, seedData)
			e.addVolume(name+"-marker", name)
		}
		_, err = e.Create(t.Context(), spec{name: "instance", seed: "used"})
		require.NoError(t, err)
		time.Sleep(seedRetention)
		e.addVolume("young", seedData)

		require.NoError(t, s.prune(t.Context()))
		name, err := s.name(t.Context())
		require.NoError(t, err)
		require.ElementsMatch(t, []string{current, name, "used", "used-marker", "young"}, slices.Collect(maps.Keys(e.volumes)))
	})
}

func TestAStoreThatSomebodyRemovedIsFilledAgainBeforeTheNextInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g := started(t, e, Config{Images: []string{"busybox"}}, provider.ConnectorConfig{})
		before, err := g.seeds.ensure(t.Context())
		require.NoError(t, err)
		require.NoError(t, e.RemoveVolume(t.Context(), before))
		_, err = g.Increase(t.Context(), 1)
		require.NoError(t, err)
		synctest.Wait()
		id := onlyInstance(t, g, provider.StateRunning)
		after := e.containers[id].spec.seed
		require.NotEqual(t, before, after)
		require.Equal(t, 1, e.full[after])
	})
}
