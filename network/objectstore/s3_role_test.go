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
	}{
		"by default":       {config.CacheS3{DisableAssumeRoleCredentialsCaching: true}, 5, 20},
		"as configured":    {config.CacheS3{DisableAssumeRoleCredentialsCaching: true, AssumeRoleMaxConcurrency: 2}, 2, 20},
		"without a limit":  {config.CacheS3{DisableAssumeRoleCredentialsCaching: true, AssumeRoleMaxConcurrency: -1}, 20, 20},
		"sharing sessions": {config.CacheS3{}, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				now, most, calls := 0, 0, 0
				reply := fakeSTS(t, new(int), time.Hour)
				c.config.BucketLocation, c.config.RoleARN = "eu-west-1", testRole
				s := testS3(t, c.config, func(r *http.Request) (*http.Response, error) {
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
			})
		})
	}
}
