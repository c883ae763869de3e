package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/retry"
)

var errFailed = errors.New("failed")

func TestWhatFailsIsTriedAgainAsOftenAsThePolicySays(t *testing.T) {
	for name, c := range map[string]struct {
		failures int
		again    bool
		tries    int
		took     time.Duration
		err      error
	}{
		"at once":               {failures: 0, again: true, tries: 1},
		"at the last try":       {failures: 3, again: true, tries: 4, took: 30 * time.Second},
		"never":                 {failures: 9, again: true, tries: 4, took: 30 * time.Second, err: errFailed},
		"not worth another try": {failures: 9, again: false, tries: 1, err: errFailed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries, announced, begin := 0, 0, time.Now()
				err := retry.Policy{Repeats: 3, Wait: 10 * time.Second}.Do(t.Context(), func() { announced++ }, func() (bool, error) {
					tries++
					if tries <= c.failures {
						return c.again, errFailed
					}
					return c.again, nil
				})
				require.Equal(t, c.err, err)
				require.Equal(t, c.tries, tries)
				require.Equal(t, c.tries-1, announced)
				require.Equal(t, c.took, time.Since(begin))
			})
		})
	}
}

func TestAContextEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("given up")
		err := retry.Policy{Repeats: 3, Wait: time.Hour}.Do(ctx, func() { cancel(why) }, func() (bool, error) { return true, errFailed })
		require.Equal(t, why, err)
	})
}
