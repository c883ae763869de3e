package connector

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetryGoesOnUntilSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, tries := time.Now(), 0
		got, err := retry(t.Context(), time.Minute, func(context.Context) (string, error) {
			if tries++; tries < 7 {
				return "", errors.New("connection refused")
			}
			return "connected", nil
		})
		require.NoError(t, err)
		require.Equal(t, "connected", got)
		require.Equal(t, (100+200+400+800+1000+1000)*time.Millisecond, time.Since(start))
	})
}

func TestRetryNamesTheLastErrorAfterTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := retry(t.Context(), 10*time.Minute, func(context.Context) (int, error) {
			time.Sleep(5 * time.Second)
			return 0, errors.New("dial tcp 10.0.0.1:22: i/o timeout")
		})
		require.EqualError(t, err, "after retrying 101 times during 10m0s timeout: dial tcp 10.0.0.1:22: i/o timeout")
		require.Less(t, time.Since(start), 10*time.Minute+attemptTimeout)
	})
}

func TestRetryPrefersAnErrorThatTheTimeoutDidNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		_, err := retry(t.Context(), 10*time.Second, func(ctx context.Context) (int, error) {
			if tries++; tries == 1 {
				return 0, errors.New("login refused")
			}
			<-ctx.Done()
			return 0, ctx.Err()
		})
		require.EqualError(t, err, "after retrying 2 times during 10s timeout: login refused")
	})
}

func TestRetryBoundsEachAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var took []time.Duration
		_, err := retry(t.Context(), 6*time.Minute, func(ctx context.Context) (int, error) {
			begun := time.Now()
			<-ctx.Done()
			took = append(took, time.Since(begun))
			return 0, ctx.Err()
		})
		require.ErrorContains(t, err, "after retrying 6 times during 6m0s timeout")
		bounds := []time.Duration{attemptTimeout, 2 * attemptTimeout, 4 * attemptTimeout, maxAttemptTimeout, maxAttemptTimeout}
		require.Equal(t, bounds, took[:len(bounds)])
	})
}

func TestRetryReachesAMachineWhoseLoginsAreSlow(t *testing.T) {
	for login, limit := range map[time.Duration]time.Duration{
		20 * time.Second:  time.Minute,
		100 * time.Second: 5 * time.Minute,
	} {
		t.Run(login.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := retry(t.Context(), limit, func(ctx context.Context) (int, error) {
					select {
					case <-time.After(login):
						return 0, nil
					case <-ctx.Done():
						return 0, ctx.Err()
					}
				})
				require.NoError(t, err)
			})
		})
	}
}

func TestRetryStopsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("the job was cancelled")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(1100*time.Millisecond, func() { cancel(cause) })

		start := time.Now()
		_, err := retry(ctx, time.Hour, func(context.Context) (int, error) {
			return 0, errors.New("connection refused")
		})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, cause)
		require.EqualError(t, err,
			"context canceled: the job was cancelled (after 4 tries, last error: connection refused)")
		require.Equal(t, 1100*time.Millisecond, time.Since(start))
	})
}

func TestRetryIsOverForAChangedHostKeyOnly(t *testing.T) {
	for name, tt := range map[string]struct {
		fromPlugin bool
		tries      int
	}{
		"seen before: it cannot come back":                  {fromPlugin: false, tries: 1},
		"given: the instance may still be setting its keys": {fromPlugin: true, tries: 13},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				_, err := retry(t.Context(), 10*time.Second, func(context.Context) (int, error) {
					tries++
					return 0, &HostKeyError{FromPlugin: tt.fromPlugin}
				})
				require.ErrorAs(t, err, new(*HostKeyError))
				require.Equal(t, tt.tries, tries)
			})
		})
	}
}
