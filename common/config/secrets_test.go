package config

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecretsAreWhatMustNotBeShown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	require.NoError(t, os.WriteFile(path, []byte(`
sentry_dsn = "https://key:s01@sentry.example.com/1"
[[runners]]
name = "not secret"
url = "https://gitlab.example.com"
clone_url = "https://user:s12@gitlab.example.com"
token = "glrt-s02"
executor = "docker-autoscaler"
environment = ["HOME_DIR=/not/secret", "MY_PASSWORD=s03", "HTTPS_PROXY=http://user:s13@proxy.example.com:3128", "A=not a secret", "B=user:not@one", 'DOCKER_AUTH_CONFIG={"auths":{"r":{"auth":"dXNlcjpzMDQ="}}}']
[runners.cache.s3]
AccessKey = "public-id"
SecretKey = "s05"
SessionToken = "s06"
[runners.cache.gcs]
PrivateKey = "s07"
[runners.cache.azure]
AccountKey = "s08"
[runners.autoscaler]
plugin = "p"
[runners.autoscaler.plugin_config]
name = "group"
client_secret = "s09"
credentials_file = "/a/place"
instances = [{addr = "10.0.0.1", password = "s14"}, {addr = "10.0.0.2", password = "s15"}]
tokens = ["s16", "s17"]
[runners.autoscaler.plugin_config.deeper]
api_key = "s10"
[runners.autoscaler.connector_config]
username = "root"
password = "s11"
[runners.autoscaler.vm_isolation.nesting_config]
password = "s18"
[runners.autoscaler.vm_isolation.connector_config]
password = "s19"
[[runners.autoscaler.policy]]
idle_count = 1
idle_time = "1m"
`), 0o600))
	file, err := Load(path)
	require.NoError(t, err)
	got := file.Secrets()
	slices.Sort(got)
	require.Equal(t, []string{
		"dXNlcjpzMDQ=", "glrt-s02", "https://key:s01@sentry.example.com/1", "s01", "s03", "s04", "s05", "s06", "s07", "s08", "s09", "s10", "s11",
		"s12", "s13", "s14", "s15", "s16", "s17", "s18", "s19",
	}, got)
}

func TestAnAuthConfigThatIsNoneIsASecretAsAWhole(t *testing.T) {
	require.Equal(t, []string{"user:pw"}, registrySecrets("user:pw"))
}
