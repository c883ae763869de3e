package manager_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

// writeOld writes the configuration with a token in the last quarter of its life.
func (b *bench) writeOld(keys string) {
	b.t.Helper()
	b.write(keys)
	life := fmt.Sprintf("token_obtained_at = %s\ntoken_expires_at = %s\n",
		time.Now().Add(-80*time.Minute).UTC().Format(time.RFC3339), time.Now().Add(20*time.Minute).UTC().Format(time.RFC3339))
	text, err := os.ReadFile(b.path)
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(b.path, append(text, life...), 0o600))
}

func TestATokenIsExchangedInTheLastQuarterOfItsLife(t *testing.T) {
	p := &provider{}
	b := start(t, p, "concurrent = 1")
	token := b.gitlab.RunnerToken()
	b.writeOld("concurrent = 1")
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

func TestAnExchangeKeepsWhatIsWrittenMeanwhile(t *testing.T) {
	p := &provider{}
	b := start(t, p, "concurrent = 1")
	token := b.gitlab.RunnerToken()
	b.writeOld("concurrent = 1")
	slow := b.gitlab.Inject(coordinator.Fault{Endpoint: coordinator.EndpointResetToken, Delay: 2 * time.Second})
	b.signal(manager.Reload, "hangup")
	require.Eventually(t, func() bool { return slow.Hits() == 1 }, 20*time.Second, time.Millisecond)
	b.writeOld("concurrent = 7")
	require.Eventually(t, func() bool {
		file, err := config.Load(b.path)
		return err == nil && file.Runners[0].Token != token
	}, 20*time.Second, 10*time.Millisecond)
	b.signal(manager.Graceful, "quit")
	require.NoError(t, b.end())
	file, err := config.Load(b.path)
	require.NoError(t, err)
	require.Equal(t, 7, file.Concurrent)
	require.Equal(t, 7, b.manager.Config().Concurrent)
}

func TestANewTokenIsSavedOnceTheFileCanBeWritten(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"no configuration yet": func(path string) error { return os.WriteFile(path, []byte("concurrent = "), 0o600) },
		"no file":              os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t, &provider{}, "concurrent = 1")
			token := b.gitlab.RunnerToken()
			b.writeOld("concurrent = 1")
			slow := b.gitlab.Inject(coordinator.Fault{Endpoint: coordinator.EndpointResetToken, Delay: time.Second})
			b.signal(manager.Reload, "hangup")
			require.Eventually(t, func() bool { return slow.Hits() == 1 }, 20*time.Second, time.Millisecond)
			require.NoError(t, spoil(b.path))
			require.Eventually(t, func() bool { return b.manager.Config().Runners[0].Token != token }, 20*time.Second, time.Millisecond)
			jobs := b.enqueue(1)
			b.wait(jobs)
			require.Equal(t, coordinator.StateSuccess, jobs[0].State())

			// With the old token, which is void.
			b.write("concurrent = 7")
			b.signal(manager.Reload, "hangup")
			require.Eventually(t, func() bool {
				file, err := config.Load(b.path)
				return err == nil && file.Concurrent == 7 && file.Runners[0].Token == b.manager.Config().Runners[0].Token && file.Runners[0].Token != token
			}, 20*time.Second, 10*time.Millisecond)
			b.signal(manager.Graceful, "quit")
			require.NoError(t, b.end())
			told := 0
			for _, entry := range b.log.AllEntries() {
				if strings.HasPrefix(entry.Message, "The new token could not be saved") {
					told++
				}
			}
			require.Equal(t, 1, told)
		})
	}
}
