package config_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestDocumentedExamplesLoadWithoutComplaint(t *testing.T) {
	for name, plugin := range map[string]string{"aws": "aws", "googlecloud": "googlecloud", "azure": "azure"} {
		file, err := config.Load(filepath.Join("..", "..", "docs", "examples", name+".toml"))
		require.NoError(t, err, name)
		require.Empty(t, file.Unknown, name)
		require.Equal(t, 10, file.Concurrent)
		require.Len(t, file.Runners, 1)
		runner := file.Runners[0]
		require.Equal(t, "docker-autoscaler", runner.Executor)
		require.Equal(t, "busybox:latest", runner.Docker.Image)
		require.Equal(t, plugin, runner.Autoscaler.Plugin)
		require.Equal(t, 1, runner.Autoscaler.CapacityPerInstance)
		require.Equal(t, 1, runner.Autoscaler.MaxUseCount)
		require.Equal(t, 10, runner.Autoscaler.MaxInstances)
		require.NotEmpty(t, runner.Autoscaler.PluginConfig["name"])
		require.True(t, runner.Autoscaler.ConnectorConfig.UseExternalAddr)
		require.Equal(t, []config.Policy{{IdleCount: 5, IdleTime: 20 * time.Minute}}, runner.Autoscaler.Policy)
	}
}

func TestAMissingFileIsAnEmptyConfiguration(t *testing.T) {
	file, err := config.Load(filepath.Join(t.TempDir(), "config.toml"))
	require.NoError(t, err)
	require.Equal(t, 1, file.Concurrent)
	require.Empty(t, file.Runners)
}

func TestAFileThatCannotBeUsedIsRefusedWithItsKey(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"no TOML":             {"concurrent = ", "line 1"},
		"wrong type":          {`concurrent = "many"`, "concurrent"},
		"no job at all":       {"concurrent = 0", "concurrent is 0"},
		"unknown log level":   {`log_level = "loud"`, `log_level "loud"`},
		"unknown log format":  {`log_format = "xml"`, `log_format "xml"`},
		"bad duration":        {"[[runners]]\n[runners.autoscaler]\ninstance_acquire_timeout = \"15 min\"", "15 min"},
		"duration in seconds": {"[[runners]]\n[runners.autoscaler]\n[[runners.autoscaler.policy]]\nidle_time = 20", "idle_time"},
		"negative count":      {"[[runners]]\n[runners.autoscaler]\nmax_instances = -1", "max_instances is -1"},
		"unknown protocol":    {"[[runners]]\n[runners.autoscaler]\n[runners.autoscaler.connector_config]\nprotocol = \"telnet\"", "telnet"},
		"short verification":  {"[[runners]]\n[runners.experimental.boot_verify]\ntimeout = 300", `timeout is 300ns: write a duration with its unit, such as "5m0s"`},
		"negative pause":      {"[[runners]]\n[runners.experimental.boot_verify]\nacquire_max_backoff = \"-1s\"", "acquire_max_backoff is -1s: it must not be negative"},
		"pauses upside down":  {"[[runners]]\nname = \"x\"\n[runners.experimental.boot_verify]\nacquire_min_backoff = \"5s\"\nacquire_max_backoff = \"2s\"", "validating runner x: experimental.boot_verify: acquire_min_backoff is 5s, above acquire_max_backoff = 2s"},
		"bad label":           {"[labels]\na = \"b\"", `label key "a"`},
		"bad pull policy":     {"[[runners]]\n[runners.docker]\npull_policy = 1", "pull_policy"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Load(write(t, test.text))
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestUnknownKeysAreNamed(t *testing.T) {
	file, err := config.Load(write(t, "concurent = 3\n[[runners]]\n[runners.docker]\nimagge = \"x\"\n[runners.kubernetes]\nnamespace = \"n\"\n"))
	require.NoError(t, err)
	require.ElementsMatch(t, []string{"concurent", "runners.docker.imagge"}, file.Unknown)
}

func TestKeysMatchInAnyCase(t *testing.T) {
	file, err := config.Load(write(t, "[[runners]]\n[runners.cache]\ntype = \"s3\"\n[runners.cache.S3]\nserveraddress = \"minio\"\n"))
	require.NoError(t, err)
	require.Equal(t, "s3", file.Runners[0].Cache.Type)
	require.Equal(t, "minio", file.Runners[0].Cache.S3.ServerAddress)
}

func TestAddressAndTokenAreExpandedFromTheEnvironment(t *testing.T) {
	t.Setenv("THE_URL", "https://gitlab.example.com")
	t.Setenv("THE_TOKEN", "glrt-secret")
	file, err := config.Load(write(t, "[[runners]]\nurl = \"$THE_URL\"\ntoken = \"${THE_TOKEN}\"\nname = \"$THE_URL\"\n"))
	require.NoError(t, err)
	require.Equal(t, "https://gitlab.example.com", file.Runners[0].URL)
	require.Equal(t, "glrt-secret", file.Runners[0].Token)
	require.Equal(t, "$THE_URL", file.Runners[0].Name)
}

func TestTheDSNComesFromTheEnvironmentIfTheFileHasNone(t *testing.T) {
	const environment, own = "https://key@sentry.example.com/1", "https://key@sentry.example.com/2"
	t.Setenv("SENTRY_DSN", environment)
	for name, c := range map[string]struct{ text, want string }{
		"absent": {"concurrent = 2\n", environment},
		"there":  {"sentry_dsn = \"" + own + "\"\n", own},
		"empty":  {"sentry_dsn = \"\"\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := config.Load(write(t, c.text))
			require.NoError(t, err)
			require.Equal(t, c.want, file.SentryDSN)
			require.NoError(t, file.Save())
			saved, err := os.ReadFile(file.Path)
			require.NoError(t, err)
			require.NotContains(t, string(saved), environment, "what is not the file's is not written to it")
			again, err := config.Load(file.Path)
			require.NoError(t, err)
			require.Equal(t, c.want, again.SentryDSN)
		})
	}
	none, err := config.Load(filepath.Join(t.TempDir(), "config.toml"))
	require.NoError(t, err)
	require.Equal(t, environment, none.SentryDSN)
}

func TestAPullPolicyIsOneTextOrAList(t *testing.T) {
	file, err := config.Load(write(t, "[[runners]]\n[runners.docker]\npull_policy = \"never\"\n[[runners]]\n[runners.docker]\npull_policy = [\"always\", \"if-not-present\"]\n"))
	require.NoError(t, err)
	require.Equal(t, config.StringOrArray{"never"}, file.Runners[0].Docker.PullPolicy)
	require.Equal(t, config.StringOrArray{"always", "if-not-present"}, file.Runners[1].Docker.PullPolicy)
}

func TestASavedFileLoadsAsItWas(t *testing.T) {
	text := `
concurrent = 4
[[runners]]
  name = "one"
  url = "https://gitlab.example.com"
  id = 7
  token = "glrt-abc"
  executor = "docker-autoscaler"
  environment = ["A=b"]
  [runners.docker]
    image = "busybox:latest"
    volumes = ["/cache"]
    pull_policy = ["if-not-present"]
  [runners.experimental.boot_verify]
    enabled = true
    timeout = "3m0s"
  [runners.autoscaler]
    plugin = "docker"
    max_instances = 3
    instance_acquire_timeout = "5m0s"
    [runners.autoscaler.plugin_config]
      name = "group"
      nested = { a = 1 }
    [[runners.autoscaler.policy]]
      idle_count = 1
      idle_time = "1m0s"
  [runners.ssh]
    host = "kept"
`
	first, err := config.Load(write(t, text))
	require.NoError(t, err)
	first.Path = filepath.Join(t.TempDir(), "new", "config.toml")
	require.NoError(t, first.Save())

	info, err := os.Stat(first.Path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	second, err := config.Load(first.Path)
	require.NoError(t, err)
	require.Empty(t, second.Unknown)
	first.Runners[0].LoadedAt, second.Runners[0].LoadedAt = time.Time{}, time.Time{}
	require.Equal(t, first, second)
	require.Equal(t, map[string]any{"host": "kept"}, second.Runners[0].Foreign["ssh"])
}

func TestSystemIDIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "etc", "config.toml")
	first, err := config.SystemID(path)
	require.NoError(t, err)
	require.Regexp(t, `^[sr]_[0-9a-zA-Z]{12}$`, first)
	second, err := config.SystemID(path)
	require.NoError(t, err)
	require.Equal(t, first, second)
}

func TestASystemIDThatIsNoneIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	file := filepath.Join(filepath.Dir(path), ".runner_system_id")
	require.NoError(t, os.WriteFile(file, []byte("x_nonsense"), 0o600))
	id, err := config.SystemID(path)
	require.NoError(t, err)
	stored, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, id, string(stored))
}

func TestShortTokenLeavesThePrefixOut(t *testing.T) {
	for token, want := range map[string]string{
		"glrt-t3_abcdefghijkl":   "abcdefghi",
		"glrt-abcdefghijkl":      "abcdefghi",
		"glrtr-abc":              "abc",
		"glcbt-abc":              "abc",
		"t1_abcdefghijkl":        "abcdefghi",
		"GR1348941abcdefghijklm": "abcdefghi",
		"plainoldtoken":          "plainoldt",
	} {
		require.Equal(t, want, config.ShortToken(token), token)
	}
}
