package docker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnEngineThatWorkedAndFellSilentIsTakenForOneThatEnded(t *testing.T) {
	const hour = time.Hour
	for name, c := range map[string]struct {
		// engine is what becomes of it; after an hour nobody watches any more.
		engine func(*fakeEngine)
		within time.Duration
		text   string
	}{
		"it works":       {engine: func(*fakeEngine) {}, within: hour},
		"it hangs":       {engine: func(f *fakeEngine) { f.hang(true) }, within: silenceLimit + 2*pulseInterval, text: "the Docker engine has not answered for 3m0s: context deadline exceeded"},
		"it has stopped": {engine: (*fakeEngine).halt, within: silenceLimit + 2*pulseInterval, text: "the Docker engine has not answered for 3m0s: Cannot connect to the Docker daemon"},
		"it hangs for a while": {engine: func(f *fakeEngine) {
			f.hang(true)
			time.AfterFunc(silenceLimit-2*pulseInterval, func() { f.hang(false) })
		}, within: hour},
		"it is started anew":    {engine: func(f *fakeEngine) { f.halt(); time.AfterFunc(time.Minute, f.resume) }, within: hour},
		"it is never free long": {engine: func(f *fakeEngine) { stutter(f) }, within: hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				engine := has(newFakeEngine(shell), "ruby:3")
				r := rehearse(t, engine, nil)
				const before = 10 * time.Minute
				ctx, stop := context.WithTimeout(t.Context(), before+hour)
				defer stop()
				time.AfterFunc(before, func() { c.engine(engine) })
				begin := time.Now()
				err := r.provider.Watch(ctx, r.job.Runner, nil)
				require.LessOrEqual(t, time.Since(begin), before+c.within)
				if c.text == "" {
					require.NoError(t, err)
					require.Equal(t, before+hour, time.Since(begin))
				} else {
					require.ErrorContains(t, err, c.text)
					require.True(t, r.provider.Stopped(err))
				}
				engine.hang(false)
				engine.resume()
				require.NoError(t, r.Cleanup(t.Context()))
			})
		})
	}
}

// stutter has an engine hang for two minutes of three, for an hour.
func stutter(f *fakeEngine) {
	for i := range 20 {
		time.AfterFunc(time.Duration(i)*3*time.Minute, func() { f.hang(true) })
		time.AfterFunc(time.Duration(i)*3*time.Minute+2*time.Minute, func() { f.hang(false) })
	}
}

func TestAnEngineThatNeverAnsweredIsNotTakenForOneThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		engine := has(newFakeEngine(shell), "ruby:3")
		r := rehearse(t, engine, nil)
		engine.hang(true)
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		require.NoError(t, r.provider.Watch(ctx, r.job.Runner, nil))
		require.NoError(t, r.Cleanup(t.Context()))
	})
}
