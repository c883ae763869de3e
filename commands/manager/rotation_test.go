package manager_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

func TestATokenIsExchangedInTheLastQuarterOfItsLife(t *testing.T) {
	p := &provider{}
	b := start(t, p, "concurrent = 1")
	token := b.gitlab.RunnerToken()
	life := fmt.Sprintf("token_obtained_at = %s\ntoken_expires_at = %s\n",
		time.Now().Add(-80*time.Minute).UTC().Format(time.RFC3339), time.Now().Add(20*time.Minute).UTC().Format(time.RFC3339))
	text, err := os.ReadFile(b.path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(b.path, append(text, life...), 0o600))
	b.signal(manager.Reload, "hangup")
	require.Eventually(t, func() bool {
		file, err := config.Load(b.path)
		return err == nil && file.Runners[0].Token != token
	}, 20*time.Second, 10*time.Millisecond)
	jobs := b.enqueue(1)
	b.wait(jobs)
	require.Equal(t, coordinator.StateSuccess, jobs[0].State())
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
	file, err := config.Load(b.path)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), file.Runners[0].TokenObtainedAt, time.Minute)
	require.Equal(t, file.Runners[0].Token, b.manager.Config().Runners[0].Token)
}

func TestATokenThatIsYoungOrKeptOnPurposeIsNotExchanged(t *testing.T) {
	p := &provider{}
	b := start(t, p, "concurrent = 1")
	token := b.gitlab.RunnerToken()
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
	now := time.Now().UTC()
	for name, test := range map[string]struct {
		obtained, expires time.Time
		kept              bool
	}{
		"young":           {now.Add(-70 * time.Minute), now.Add(30 * time.Minute), false},
		"without an end":  {now.Add(-70 * time.Minute), time.Time{}, false},
		"kept on purpose": {now.Add(-90 * time.Minute), now.Add(10 * time.Minute), true},
	} {
		runner := &config.Runner{TokenObtainedAt: test.obtained, TokenExpiresAt: test.expires}
		if test.kept {
			runner.FeatureFlags = map[string]bool{"FF_DISABLE_AUTOMATIC_TOKEN_ROTATION": true}
		}
		due := manager.RotationDue(runner)
		require.True(t, due.IsZero() || due.After(now), name)
	}
	require.Equal(t, token, b.manager.Config().Runners[0].Token)
}
