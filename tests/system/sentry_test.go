//go:build system

package system

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
	"gitlab.com/gitlab-org/gitlab-runner/tests/sentryserver"
)

func TestErrorsOfTheManagerAreSentToTheSentryOfTheConfigurationInForce(t *testing.T) {
	t.Parallel()
	sentry := func() *sentryserver.Server {
		server, err := sentryserver.Start()
		require.NoError(t, err)
		t.Cleanup(func() {
			require.Empty(t, server.Violations())
			require.NoError(t, server.Close())
		})
		return server
	}
	first, second := sentry(), sentry()
	s := newStage(t, coordinator.Config{})
	config := s.Text(rig.Config{Executor: "docker", Docker: `    allowed_pull_policies = ["if-not-present", "never"]`})
	with := func(dsn string) string { return "sentry_dsn = \"" + dsn + "\"\n" + config }

	require.NoError(t, s.WriteConfig(with("https://sentry.example.com/1")))
	s.Start()
	s.AwaitLog("error", "sentry_dsn has no effect", "empty username")

	require.NoError(t, s.WriteConfig(with(first.DSN())))
	s.AwaitLoaded(2)
	secret := "q" + strings.ToLower(rand.Text())
	job := s.Enqueue(coordinator.JobSpec{
		Script:    []string{"true"},
		Image:     coordinator.Image{Name: "not-there-$SECRET:1", PullPolicy: []string{"never"}},
		Variables: []coordinator.Variable{{Key: "SECRET", Value: secret, Masked: true}},
	})
	s.RequireState(s.Ended(job), coordinator.StateFailed, "runner_system_failure")
	event, err := first.Await(s.Ctx, func(e sentryserver.Event) bool { return strings.HasPrefix(e.Message, "Job failed (system failure): ") })
	require.NoError(t, err)
	require.Contains(t, event.Message, "not-there-[MASKED]:1")
	require.NotContains(t, event.Text, secret)
	require.Equal(t, "error", event.Level)
	require.NotEmpty(t, event.Release)
	entry := s.AwaitLog("error", "Job failed (system failure)")
	for _, tag := range []string{"runner", "runner_name", "job", "project"} {
		require.NotEmpty(t, event.Tags[tag], tag)
		require.Equal(t, entry.Text(tag), event.Tags[tag])
	}

	require.NoError(t, s.WriteConfig(with(second.DSN())))
	s.AwaitLoaded(3)
	require.NoError(t, s.WriteConfig("concurrent = 0\n"))
	_, err = second.Await(s.Ctx, func(e sentryserver.Event) bool { return strings.HasPrefix(e.Message, "Failed to load config") })
	require.NoError(t, err)
	require.NotContains(t, s.Manager.LogText(), second.DSN())
	for _, event := range first.Events() {
		require.NotContains(t, event.Message, "Failed to load config")
	}
}
