package common_test

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

func TestCacheKeysAreSanitized(t *testing.T) {
	for key, want := range map[string]string{
		"a%2f../b/.": "b", " foo / bar ": " foo / bar", "...": "...", "a/b": "a/b", `a\b`: "a/b", "key ": "key", "%2e%2e/x": "x",
	} {
		got, ok := common.SanitizeCacheKey(key)
		require.True(t, ok, key)
		require.Equal(t, want, got, key)
	}
	for _, key := range []string{"", "..", "/", "foo/..", ".", " "} {
		_, ok := common.SanitizeCacheKey(key)
		require.False(t, ok, key)
	}
}

func FuzzSanitizeCacheKeyStaysBelowItsBase(f *testing.F) {
	for _, seed := range []string{"a%2f../b", "..", `..\..\x`, "%2e%2e%2f", " / .. / "} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		clean, ok := common.SanitizeCacheKey(key)
		if !ok {
			return
		}
		joined := path.Join("/base", clean)
		if !strings.HasPrefix(joined, "/base/") || joined != "/base/"+clean {
			t.Fatalf("%q became %q, which leaves its base or is not clean", key, clean)
		}
	})
}

func TestReasonsAreMappedToWhatTheServerKnows(t *testing.T) {
	known := []string{"image_pull_failure"}
	for reason, want := range map[common.FailureReason]common.FailureReason{
		"":                                     common.ScriptFailure,
		common.ImagePullFailure:                common.ImagePullFailure,
		common.RunnerConfigurationError:        common.ScriptFailure,
		common.RunnerExternalDependencyFailure: common.RunnerSystemFailure,
		common.RunnerInterrupted:               common.UnknownFailure,
		common.JobCanceled:                     common.UnknownFailure,
		common.JobExecutionTimeout:             common.JobExecutionTimeout,
	} {
		require.Equal(t, want, reason.Supported(known), reason)
	}
	require.Equal(t, common.RunnerSystemFailure, common.ImagePullFailure.Supported(nil))
}

func TestSettingsThatCannotBeReadAreToldAndDefaulted(t *testing.T) {
	list := variables.Parse([]string{
		"GIT_CHECKOUT=maybe", "GET_SOURCES_ATTEMPTS=11", "RUNNER_SCRIPT_TIMEOUT=-3s", "GIT_CLEAN_FLAGS=none", "GIT_FETCH_EXTRA_FLAGS=--tags -q",
	})
	settings, warnings := common.ReadSettings(list, 20)
	require.Len(t, warnings, 3)
	require.True(t, settings.GitCheckout)
	require.Equal(t, 10, settings.GetSourcesAttempts)
	require.Zero(t, settings.ScriptTimeout)
	require.Nil(t, settings.GitCleanFlags)
	require.Equal(t, []string{"--tags", "-q"}, settings.GitFetchFlags)
	require.Equal(t, 20, settings.SubmoduleDepth)
}

func TestDefaultsNeverWarn(t *testing.T) {
	settings, warnings := common.ReadSettings(nil, 0)
	require.Empty(t, warnings)
	require.Equal(t, []string{"-ffdx"}, settings.GitCleanFlags)
	require.True(t, settings.AfterScriptIgnoreErrors)
}

// Reading arbitrary values never fails and keeps numbers in their range.
func TestSettingsStayInRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := variables.Parse([]string{"GET_SOURCES_ATTEMPTS=" + rapid.String().Draw(t, "value")})
		settings, _ := common.ReadSettings(list, 0)
		require.GreaterOrEqual(t, settings.GetSourcesAttempts, 1)
		require.LessOrEqual(t, settings.GetSourcesAttempts, 10)
	})
}
