package autoscaler

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestAnAttemptGivenUpWithItsJobIsNoFailureForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		log := logrus.New()
		log.SetOutput(io.Discard)
		c := newConnections(func(ctx context.Context, _ provider.ConnectInfo, _ connector.DialOptions) (connector.Client, error) {
			if attempts++; attempts == 1 {
				<-ctx.Done()
				return nil, errors.New("dial ssh: interrupted")
			}
			return nil, errors.New("dial ssh: connection refused")
		}, false, log)
		info := provider.ConnectInfo{ID: "i-1"}
		ctx, cancel := context.WithCancelCause(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			_, err := c.get(ctx, info)
			require.ErrorContains(t, err, "interrupted")
		})
		synctest.Wait()
		all.Go(func() {
			_, err := c.get(t.Context(), info)
			require.ErrorContains(t, err, "connection refused", "an attempt of its own")
		})
		synctest.Wait()
		cancel(errors.New("the job was canceled"))
		all.Wait()
		c.close()
		require.Empty(t, c.open)
	})
}
