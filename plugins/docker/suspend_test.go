package docker

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestASuspendedInstanceCanBeResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})

		accepted, err := g.Suspend(t.Context(), []string{id})
		require.NoError(t, err)
		require.Equal(t, []string{id}, accepted)
		synctest.Wait()
		require.Equal(t, provider.StateSuspended, states(t, g)[id])
		_, err = g.ConnectInfo(t.Context(), id)
		require.Error(t, err)

		accepted, err = g.Resume(t.Context(), []string{id})
		require.NoError(t, err)
		require.Equal(t, []string{id}, accepted)
		synctest.Wait()
		require.Equal(t, provider.StateRunning, states(t, g)[id])
		_, err = g.ConnectInfo(t.Context(), id)
		require.NoError(t, err)
	})
}

func TestSuspendAndResumeCanBeAskedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})
		for range 2 {
			accepted, err := g.Suspend(t.Context(), []string{id})
			require.NoError(t, err)
			require.Equal(t, []string{id}, accepted)
		}
		synctest.Wait()
		e.mute = true
		for range 2 {
			accepted, err := g.Resume(t.Context(), []string{id})
			require.NoError(t, err)
			require.Equal(t, []string{id}, accepted)
			synctest.Wait()
			require.Equal(t, provider.StateResuming, states(t, g)[id])
		}
	})
}

func TestAnInstanceThatDoesNotResumeIsSuspendedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})
		_, err := g.Suspend(t.Context(), []string{id})
		require.NoError(t, err)
		synctest.Wait()
		e.crash = "instance: the engine ended"
		_, err = g.Resume(t.Context(), []string{id})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, provider.StateSuspended, states(t, g)[id])
	})
}

func TestAnInstanceThatDoesNotShutDownRunsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})
		e.fail = func(operation, _ string) error {
			if operation == "stop" {
				return errors.New("device is busy")
			}
			return nil
		}
		_, err := g.Suspend(t.Context(), []string{id})
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, provider.StateRunning, states(t, g)[id])
	})
}

func TestASuspensionSurvivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		before := first(t, e)
		synctest.Wait()
		id := onlyInstance(t, before, provider.StateRunning)
		_, err := before.Suspend(t.Context(), []string{id})
		require.NoError(t, err)
		require.NoError(t, before.Shutdown(t.Context()))

		g := started(t, e, Config{}, provider.ConnectorConfig{})
		states(t, g)
		synctest.Wait()
		require.Equal(t, provider.StateSuspended, states(t, g)[id])
		_, err = g.Decrease(t.Context(), []string{id})
		require.NoError(t, err)
		synctest.Wait()
		require.Empty(t, e.instances(), "it can be deleted without being resumed")
	})
}

func TestAnUnknownInstanceIsNeitherSuspendedNorResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})
		accepted, err := g.Suspend(t.Context(), []string{"unknown", id})
		require.ErrorContains(t, err, `has no instance "unknown"`)
		require.Equal(t, []string{id}, accepted)
		synctest.Wait()
		accepted, err = g.Resume(t.Context(), []string{"unknown", id})
		require.ErrorContains(t, err, `has no instance "unknown"`)
		require.Equal(t, []string{id}, accepted)
	})
}
