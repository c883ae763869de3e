package featureflags_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
)

func TestConfigurationWinsOverVariablesWinOverDefaults(t *testing.T) {
	variables := map[string]string{
		featureflags.NetworkPerBuild: "true", featureflags.Timestamps: "FALSE", featureflags.ScriptSections: "perhaps",
		featureflags.HashCacheKeys: "true", featureflags.UseInit: "",
	}
	set, warnings := featureflags.Resolve(map[string]bool{featureflags.HashCacheKeys: false}, func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	})
	require.Equal(t, []string{`FF_SCRIPT_SECTIONS: expected bool got "perhaps", using default value: false`}, warnings)
	require.Equal(t, []featureflags.Value{{Name: featureflags.NetworkPerBuild, On: true}, {Name: featureflags.Timestamps}}, set.Changed())
	require.False(t, set.IsOn(featureflags.HashCacheKeys))
	require.True(t, set.IsOn(featureflags.MaskAllDefaultTokens))
}

func TestTheZeroSetHasTheDefaults(t *testing.T) {
	var set featureflags.Set
	require.True(t, set.IsOn(featureflags.Timestamps))
	require.False(t, set.IsOn(featureflags.NetworkPerBuild))
	require.Len(t, set.All(), len(featureflags.Defaults()))
	require.Empty(t, set.Changed())
}
