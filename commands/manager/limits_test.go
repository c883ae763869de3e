package manager

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// exchanged is an entry without an id after its token was exchanged.
func exchanged(former *config.Runner, token string) *config.Runner {
	runner := *former
	runner.Token = token
	runner.Continue(former)
	return &runner
}

func TestJobsOfAnExchangedTokenCountForTheNewOne(t *testing.T) {
	former := &config.Runner{Token: "glrt-former", Limit: 2}
	fresh := exchanged(former, "glrt-fresh")
	newest := exchanged(fresh, "glrt-newest")
	r := newRequests()
	require.True(t, r.acquireJob(former))
	require.True(t, r.acquireRequest(former))
	require.False(t, r.acquireRequest(fresh), "one request is in flight")
	r.releaseRequest(former, 1)
	require.True(t, r.acquireRequest(fresh))
	require.True(t, r.acquireJob(fresh))
	require.False(t, r.acquireJob(newest), "both jobs go on")
	r.releaseJob(former)
	require.True(t, r.acquireJob(newest))
}

func TestAnEntryThatIsGoneIsForgottenOnceItsJobsHaveEnded(t *testing.T) {
	gone, other := &config.Runner{ID: 1, Limit: 1}, &config.Runner{ID: 2}
	r := newRequests()
	require.True(t, r.acquireJob(gone))
	require.True(t, r.acquireJob(other))
	r.releaseJob(other)
	r.keep([]*config.Runner{other})
	require.Len(t, r.entries, 2)
	require.False(t, r.acquireJob(gone), "the entry came back while its job runs")
	r.releaseJob(gone)
	r.keep([]*config.Runner{other})
	require.Len(t, r.entries, 1)
}

func TestConcurrentIDsAreNotGivenTwiceWhenATokenIsExchanged(t *testing.T) {
	former := &config.Runner{Token: "glrt-former"}
	fresh := exchanged(former, "glrt-fresh")
	newest := exchanged(fresh, "glrt-newest")
	c := newConcurrentIDs()
	id, ofProject, release := c.take(former.Identity(), 7)
	require.Equal(t, []int{0, 0}, []int{id, ofProject})
	id, ofProject, _ = c.take(newest.Identity(), 7)
	require.Equal(t, []int{1, 1}, []int{id, ofProject}, "the first job goes on in its directories")
	release()
	id, ofProject, _ = c.take(fresh.Identity(), 8)
	require.Equal(t, []int{0, 0}, []int{id, ofProject})
	id, _, _ = c.take((&config.Runner{Token: "glrt-other"}).Identity(), 7)
	require.Equal(t, 0, id)
}

func TestAPausedEntryStaysPausedWhenItsTokenIsExchanged(t *testing.T) {
	former := &config.Runner{Token: "glrt-former"}
	fresh := exchanged(former, "glrt-fresh")
	p := newPauses()
	require.True(t, p.set(former, true))
	require.True(t, p.has(fresh))
	require.True(t, p.set(fresh, false))
	require.False(t, p.has(former))
}
