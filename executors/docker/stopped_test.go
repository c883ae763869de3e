package docker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnEngineThatHasStoppedIsKnownSoonAndToldAsSuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3")
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		time.AfterFunc(time.Minute, engine.halt)
		begin := time.Now()
		err := r.script(t.Context(), "sleep\n")
		require.True(t, r.provider.Stopped(err), err)
		require.EqualError(t, err, "the Docker engine has stopped: waiting for the container: unexpected EOF")
		require.Error(t, r.Cleanup(t.Context()))
		require.Equal(t, time.Minute+enginePatience+(cleanupAttempts-1)*cleanupPause, time.Since(begin))
		require.True(t, r.machine.untidy)
		engine.resume()
		require.NoError(t, engine.ContainerRemove(t.Context(), r.executor.build.id, false))
	})
}

func TestAScriptGoesOnWhenItsEngineIsStartedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3")
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		ended := make(chan error, 1)
		time.AfterFunc(time.Minute, engine.halt)
		time.AfterFunc(time.Minute+enginePatience-time.Second, engine.resume)
		go func() { ended <- r.script(t.Context(), "sleep\n") }()
		time.Sleep(2 * time.Minute)
		containers, err := engine.ContainerList(t.Context())
		require.NoError(t, err)
		require.Len(t, containers, 1)
		require.NoError(t, engine.ContainerStop(t.Context(), containers[0].ID, nil))
		require.False(t, r.provider.Stopped(<-ended))
		require.Equal(t, 1, strings.Count(r.log.String(), "what it prints from here on is not shown"))
		require.NoError(t, r.Cleanup(t.Context()))
	})
}

func TestACallThatDidNotReachAnEngineThatAnswersIsNotItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3", helperName)
		engine.fail["start build"] = unreachable()
		r := rehearse(t, engine, nil)
		require.NoError(t, r.Prepare(t.Context()))
		err := r.script(t.Context(), "exit 0\n")
		require.ErrorContains(t, err, "Cannot connect to the Docker daemon")
		require.False(t, r.provider.Stopped(err))
		engine.halt()
		require.True(t, r.provider.Stopped(r.stage(t.Context(), "get_sources")))
		engine.resume()
		require.NoError(t, r.Cleanup(t.Context()))
	})
}
