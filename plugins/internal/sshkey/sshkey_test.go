package sshkey

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestTheOperatorsKeyGoesFirst(t *testing.T) {
	own, err := New()
	require.NoError(t, err)
	made, err := For(provider.ConnectorConfig{})
	require.NoError(t, err)
	require.NotEmpty(t, made.Private)
	require.NotEqual(t, own.Public, made.Public)
	given, err := For(provider.ConnectorConfig{Key: own.Private})
	require.NoError(t, err)
	require.Equal(t, own, given)
	none, err := For(provider.ConnectorConfig{Key: own.Private, UseStaticCredentials: true})
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = For(provider.ConnectorConfig{Key: []byte("-----BEGIN nonsense")})
	require.ErrorContains(t, err, "connector_config key_path: reading the private ssh key")
	require.NotContains(t, err.Error(), "nonsense")
}
