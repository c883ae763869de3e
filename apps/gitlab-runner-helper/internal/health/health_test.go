package health_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/health"
)

func TestTargetsComeFromTheEnvironment(t *testing.T) {
	target, err := health.FromEnvironment([]string{
		"PATH=/bin", "OLD_TCP_ADDR=first", "WAIT_FOR_SERVICE_TCP_ADDR=0123456789ab",
		"WAIT_FOR_SERVICE_80_TCP_PORT=80", "WAIT_FOR_SERVICE_443_TCP_PORT=443",
	})
	require.NoError(t, err)
	require.Equal(t, health.Target{Host: "0123456789ab", Ports: []string{"80", "443"}}, target)

	_, err = health.FromEnvironment([]string{"X_80_TCP_PORT=80"})
	require.ErrorContains(t, err, "no host")
	_, err = health.FromEnvironment([]string{"X_TCP_ADDR=db"})
	require.ErrorContains(t, err, "no port")
}

// dialer answers at each address from a number of seconds after its making.
func dialer(after map[string]time.Duration) health.Dial {
	start := time.Now()
	return func(_ context.Context, _, address string) (net.Conn, error) {
		if wait, ok := after[address]; ok && time.Since(start) >= wait {
			client, server := net.Pipe()
			return client, server.Close()
		}
		return nil, errors.New("connection refused")
	}
}

func TestOneAnswerIsEnoughUnlessAllAreAskedFor(t *testing.T) {
	for _, c := range []struct {
		all  bool
		took time.Duration
	}{{false, 3 * time.Second}, {true, 7 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			dial := dialer(map[string]time.Duration{"db:1": 7 * time.Second, "db:2": 3 * time.Second})
			var out bytes.Buffer
			target := health.Target{Host: "db", Ports: []string{"1", "2"}, All: c.all}
			require.NoError(t, health.Wait(t.Context(), &console.Console{Out: &out, Err: &out}, dial, target))
			require.Equal(t, c.took, time.Since(start))
		})
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("given up"))
		defer cancel()
		var out bytes.Buffer
		err := health.Wait(ctx, &console.Console{Out: &out, Err: &out}, dialer(nil), health.Target{Host: "db", Ports: []string{"1"}})
		require.EqualError(t, err, "given up")
	})
}

func TestCacheDirectoriesAreOpenToEverybody(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	require.NoError(t, health.InitCache([]string{dir}))
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o777), info.Mode().Perm())
	require.Error(t, health.InitCache(nil))
}
