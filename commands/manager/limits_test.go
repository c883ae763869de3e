package manager

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func TestJobsOfAnExchangedTokenCountForTheNewOne(t *testing.T) {
	former := &config.Runner{Token: "glrt-former", Limit: 2}
	fresh := &config.Runner{Token: "glrt-fresh", Limit: 2}
	newest := &config.Runner{Token: "glrt-newest", Limit: 2}
	r := newRequests()
	require.True(t, r.acquireJob(former))
	require.True(t, r.acquireRequest(former))
	r.rotated(former, fresh.Token)
	require.False(t, r.acquireRequest(fresh), "one request is in flight")
	r.releaseRequest(former, 1)
	require.True(t, r.acquireRequest(fresh))
	require.True(t, r.acquireJob(fresh))
	r.rotated(fresh, newest.Token)
	require.False(t, r.acquireJob(newest), "both jobs go on")
	r.releaseJob(former)
	require.True(t, r.acquireJob(newest))
}

func TestConcurrentIDsAreNotGivenTwiceWhenATokenIsExchanged(t *testing.T) {
	c := newConcurrentIDs()
	id, ofProject, release := c.take("glrt-former", 7)
	require.Equal(t, []int{0, 0}, []int{id, ofProject})
	c.rotated("glrt-former", "glrt-fresh")
	c.rotated("glrt-fresh", "glrt-newest")
	id, ofProject, _ = c.take("glrt-newest", 7)
	require.Equal(t, []int{1, 1}, []int{id, ofProject}, "the first job goes on in its directories")
	release()
	id, ofProject, _ = c.take("glrt-fresh", 8)
	require.Equal(t, []int{0, 0}, []int{id, ofProject})
	id, _, _ = c.take("glrt-other", 7)
	require.Equal(t, 0, id)
}
