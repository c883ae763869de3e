package docker

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func TestRecentImagesAreThoseThatSeveralJobsUsed(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }
	one, other := &config.Runner{Token: "one"}, &config.Runner{Token: "other"}
	var r recent
	require.Empty(t, r.names(one, start, 10))

	r.note(one, at(0), "ruby:3", "redis:7")
	r.note(one, at(1), "go:1", "redis:7")
	r.note(one, at(2), "go:1", "app:build-1")
	r.note(one, at(3), "ruby:3")
	r.note(other, at(4), "node:22")
	r.note(other, at(5), "node:22")

	require.Equal(t, []string{"ruby:3", "go:1", "redis:7"}, r.names(one, at(5), 10), "app:build-1 was used once")
	require.Equal(t, []string{"ruby:3", "go:1"}, r.names(one, at(5), 2))
	require.Empty(t, r.names(one, at(5), 0), "off")
	require.Equal(t, []string{"node:22"}, r.names(other, at(5), 10))
	require.Equal(t, []string{"ruby:3"}, r.names(one, at(3).Add(recentLife-time.Second), 10), "the others' time is over")
}

func TestRecentImagesAreBounded(t *testing.T) {
	runner := &config.Runner{Token: "one"}
	var r recent
	now := time.Now()
	for i := range 3 * recentLimit {
		r.note(runner, now.Add(time.Duration(i)*time.Second), fmt.Sprintf("app:%d", i))
	}
	require.Len(t, r.entries[runner.Token], recentLimit)
	require.Contains(t, r.entries[runner.Token], fmt.Sprintf("app:%d", 3*recentLimit-1))
}
