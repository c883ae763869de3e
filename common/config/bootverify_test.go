package config_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func TestWhatAVerificationLeavesOpenIsFilledIn(t *testing.T) {
	for name, test := range map[string]struct {
		keys string
		want config.BootVerify
	}{
		"nothing":               {"enabled = true", config.BootVerify{Enabled: true, Timeout: 5 * time.Minute, AcquireMinBackoff: time.Second, AcquireMaxBackoff: 10 * time.Second}},
		"all":                   {"timeout = \"1m\"\nacquire_min_backoff = \"2s\"\nacquire_max_backoff = \"3s\"", config.BootVerify{Timeout: time.Minute, AcquireMinBackoff: 2 * time.Second, AcquireMaxBackoff: 3 * time.Second}},
		"a long first pause":    {"acquire_min_backoff = \"30s\"", config.BootVerify{Timeout: 5 * time.Minute, AcquireMinBackoff: 30 * time.Second, AcquireMaxBackoff: 30 * time.Second}},
		"a short longest pause": {"acquire_max_backoff = \"100ms\"", config.BootVerify{Timeout: 5 * time.Minute, AcquireMinBackoff: 100 * time.Millisecond, AcquireMaxBackoff: 100 * time.Millisecond}},
		"zeros":                 {"acquire_min_backoff = \"0s\"\ntimeout = \"0s\"", config.BootVerify{Timeout: 5 * time.Minute, AcquireMinBackoff: time.Second, AcquireMaxBackoff: 10 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := config.Load(write(t, "[[runners]]\n[runners.experimental.boot_verify]\n"+test.keys))
			require.NoError(t, err)
			require.Equal(t, test.want, file.Runners[0].BootVerification())
			require.Equal(t, test.want.Enabled, file.Runners[0].VerifiesAtBoot())
			require.Empty(t, file.Unknown)
		})
	}
	require.False(t, (&config.Runner{}).VerifiesAtBoot())
	require.False(t, (&config.Runner{Experimental: &config.RunnerExperimental{}}).VerifiesAtBoot())
}
