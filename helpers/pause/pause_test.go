package pause_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

var errStopped = errors.New("stopped")

func TestAPauseEndsInTimeOrWithItsContext(t *testing.T) {
	for name, c := range map[string]struct {
		stopAfter, took time.Duration
		err             error
	}{
		"in time":               {stopAfter: time.Hour, took: time.Minute},
		"with its context":      {stopAfter: time.Second, took: time.Second, err: errStopped},
		"with a context before": {stopAfter: 0, took: 0, err: errStopped},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancelCause(t.Context())
				if c.stopAfter == 0 {
					stop(errStopped)
				} else {
					defer time.AfterFunc(c.stopAfter, func() { stop(errStopped) }).Stop()
				}
				begin := time.Now()
				require.ErrorIs(t, pause.For(ctx, time.Minute), c.err)
				require.Equal(t, c.took, time.Since(begin))
			})
		})
	}
}

func TestAPauseOfNothingIsRefusedByAContextThatHasEnded(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	require.NoError(t, pause.For(ctx, 0))
	stop(errStopped)
	require.ErrorIs(t, pause.For(ctx, 0), errStopped)
}
