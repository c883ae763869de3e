package objectstore

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func TestRolesAreAssumedByNoMoreThanTheLimitAtATime(t *testing.T) {
	for name, c := range map[string]struct {
		config config.CacheS3
		most   int
		calls  int
		// longest is how long the last one waits for its turn.
		longest time.Duration
	}{
		"by default":       {config.CacheS3{DisableAssumeRoleCredentialsCaching: true}, 5, 20, 3 * time.Second},
		"as configured":    {config.CacheS3{DisableAssumeRoleCredentialsCaching: true, AssumeRoleMaxConcurrency: 2}, 2, 20, 9 * time.Second},
		"without a limit":  {config.CacheS3{DisableAssumeRoleCredentialsCaching: true, AssumeRoleMaxConcurrency: -1}, 20, 20, 0},
		"sharing sessions": {config.CacheS3{}, 1, 1, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				now, most, calls := 0, 0, 0
				reply := fakeSTS(t, new(int), time.Hour)
				c.config.BucketLocation, c.config.RoleARN = "eu-west-1", testRole
				var told tally
				s := testS3Telling(t, c.config, &told, func(r *http.Request) (*http.Response, error) {
					mu.Lock()
					now++
					calls++
					most = max(most, now)
					mu.Unlock()
					time.Sleep(time.Second)
					mu.Lock()
					defer mu.Unlock()
					now--
					return reply(r)
				})
				var group sync.WaitGroup
				for range 20 {
					group.Go(func() {
						_, err := s.Download(t.Context(), "a", time.Minute)
						require.NoError(t, err)
					})
				}
				group.Wait()
				require.Equal(t, c.most, most)
				require.Equal(t, c.calls, calls)
				require.Equal(t, c.calls, told.called)
				require.Equal(t, 20-c.calls, told.reused)
				require.Equal(t, c.longest, told.longest)
				require.Equal(t, min(1, 20-c.calls), s.Sessions())
			})
		})
	}
}

// tally is a Recorder that counts.
type tally struct {
	mu             sync.Mutex
	reused, called int
	longest        time.Duration
}

func (r *tally) RoleReused() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reused++
}

func (r *tally) RoleAwaited(waited time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.longest = max(r.longest, waited)
}

func (r *tally) RoleCalled() func(error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.called++
	return func(error) {}
}

func TestASessionAtHandIsUsedWhileALongerOneIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reply := fakeSTS(t, new(int), 30*time.Minute)
		s := testS3(t, config.CacheS3{BucketLocation: "eu-west-1", RoleARN: testRole}, func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Minute)
			return reply(r)
		})
		_, err := s.Download(t.Context(), "a", time.Minute)
		require.NoError(t, err)
		var group sync.WaitGroup
		group.Go(func() {
			_, err := s.Download(t.Context(), "a", time.Hour)
			require.NoError(t, err)
		})
		synctest.Wait()
		start := time.Now()
		_, err = s.Download(t.Context(), "a", time.Minute)
		require.NoError(t, err)
		require.Zero(t, time.Since(start))
		group.Wait()
	})
}

func TestASessionThatIsOverIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := testS3(t, config.CacheS3{BucketLocation: "eu-west-1", RoleARN: testRole}, fakeSTS(t, new(int), time.Hour))
		require.Zero(t, s.Sessions())
		_, err := s.Download(t.Context(), "a", time.Minute)
		require.NoError(t, err)
		require.Equal(t, 1, s.Sessions())
		time.Sleep(time.Hour + time.Second)
		require.Zero(t, s.Sessions())
	})
}
