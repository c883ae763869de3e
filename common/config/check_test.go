package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

var vocabulary = config.Vocabulary{
	Executors:    []string{"docker", "docker-autoscaler"},
	FeatureFlags: []string{"FF_NETWORK_PER_BUILD", "FF_TIMESTAMPS", "FF_USE_FASTZIP"},
}

// sound is an entry about which there is nothing to be said; it ends in line 8.
const sound = `concurrent = 2
[[runners]]
  name = "one"
  url = "https://gitlab.example.com"
  token = "glrt-t3_0123456789"
  executor = "docker"
  [runners.docker]
    image = "busybox"
`

func TestFindingsNameTheirPlaceAndWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"nothing":            {sound, nil},
		"no TOML":            {"concurrent = 1\nlog_level = info\n", []string{"2:16: error: expected a top-level item"}},
		"a wrong type":       {"concurrent = \"2\"\n", []string{`1:1: error: concurrent: this is a string, wanted is an integer: write it without quotes`}},
		"several types":      {"concurrent = 1.5\n[[runners]]\n  docker = 1\n  environment = \"A=1\"\n", []string{"1:1: error: concurrent: this is a number with a fraction", "3:3: error: runners[0].docker: this is an integer, wanted is a table", "4:3: error: runners[0].environment: this is a string, wanted is a list"}},
		"an element":         {sound + `    volumes = ["/cache", 5]` + "\n", []string{"9:5: error: runners[0].docker.volumes[1]: this is an integer, wanted is a string"}},
		"a value of a map":   {sound + "  [runners.feature_flags]\n    FF_TIMESTAMPS = \"yes\"\n", []string{"10:5: error: runners[0].feature_flags.FF_TIMESTAMPS: this is a string, wanted is true or false: write it without quotes"}},
		"one bracket":        {"[runners]\nname = \"x\"\n", []string{"1:2: error: runners: this is a table, wanted is a list: write [[runners]] with two pairs"}},
		"two brackets":       {sound + "  [[runners.cache]]\n    Type = \"s3\"\n", []string{"9:13: error: runners[0].cache: this is a list, wanted is a table: write [runners.cache] with one pair"}},
		"a typing error":     {sound + "    priviledged = true\n", []string{"9:5: error: runners[0].docker.priviledged: unknown key: did you mean privileged?"}},
		"a swapped letter":   {"concurrnet = 4\n" + sound, []string{"1:1: error: concurrnet: unknown key: did you mean concurrent?"}},
		"the wrong table":    {sound + "    max_instances = 3\n", []string{"9:5: error: runners[0].docker.max_instances: unknown key here: it belongs in [runners.autoscaler]"}},
		"a list's table":     {sound + "    idle_count = 3\n", []string{"it belongs in [[runners.autoscaler.policy]]"}},
		"an unknown table":   {sound + "  [runners.zzzzzzz]\n", []string{"9:12: error: runners[0].zzzzzzz: unknown key: it has no effect"}},
		"an inline table":    {sound + "[runners.cache]\ns3 = {BucketNam = \"x\"}\n", []string{"10:7: error: runners[0].cache.s3.BucketNam: unknown key: did you mean BucketName?"}},
		"a dotted key":       {sound + "[runners.cache]\ns3.BucketNam = \"x\"\n", []string{"10:4: error: runners[0].cache.s3.BucketNam: unknown key: did you mean BucketName?"}},
		"other letters":      {sound + "  [runners.cache]\n    type = \"s3\"\n", nil},
		"foreign tables":     {sound + "  [runners.kubernetes]\n    namspace = 5\n", nil},
		"a plugin's keys":    {sound + "  [runners.machine]\n    anything = 5\n", nil},
		"a removed key":      {sound + "  [runners.cache]\n    serveraddress = \"x\"\n", []string{"10:5: error: runners[0].cache.serveraddress: this key was removed and has no effect: write it in [runners.cache.s3]"}},
		"a removed script":   {strings.Replace(sound, "  executor", "  pre_clone_script = \"x\"\n  executor", 1), []string{"6:3: error: runners[0].pre_clone_script: this key was removed and has no effect: use pre_get_sources_script"}},
		"a deprecated key":   {sound + "  [runners.cache.s3]\n    UploadRoleARN = \"x\"\n", []string{"10:5: warning: runners[0].cache.s3.UploadRoleARN: the key is deprecated: use RoleARN"}},
		"a deprecated place": {sound + "[experimental.usage_logger]\nlog_dir = \"x\"\n", []string{"10:1: warning: experimental.usage_logger.log_dir: this place of the key is deprecated"}},
		"a verification":     {sound + "[runners.experimental.boot_verify]\nenabled = true\ntimeout = \"2m\"\n", nil},
		"its typing error":   {sound + "[runners.experimental.boot_verify]\nenabeld = true\n", []string{"10:1: error: runners[0].experimental.boot_verify.enabeld: unknown key: did you mean enabled?"}},
		"its bad value":      {sound + "[runners.experimental.boot_verify]\nacquire_min_backoff = \"1h\"\nacquire_max_backoff = \"1m\"\n", []string{"10:1: error: runners[0].experimental.boot_verify.acquire_min_backoff: acquire_min_backoff is 1h0m0s, above"}},
		"without an image":   {strings.Replace(sound, "    image = \"busybox\"\n", "", 1) + "[runners.experimental.boot_verify]\nenabled = true\n", []string{"runners[0].docker.image: the image is missing: boot_verify"}},
		"another experiment": {sound + "[runners.experimental.turbo]\n", []string{"9:23: error: runners[0].experimental.turbo: unknown key: it has no effect", "runners[0].experimental: The key is known and not honoured"}},
		"a feature flag":     {sound + "  [runners.feature_flags]\n    FF_TIMESTAMP = true\n    FF_USE_FASTZIP = true\n", []string{"10:5: warning: runners[0].feature_flags.FF_TIMESTAMP: unknown feature flag: did you mean FF_TIMESTAMPS?", "11:5: warning: runners[0].feature_flags.FF_USE_FASTZIP: the feature flag is deprecated"}},
		"a duration":         {"connection_max_age = \"15 min\"\n", []string{`1:1: error: connection_max_age: "15 min" is no duration`}},
		"a bare duration":    {strings.Replace(sound, "  executor", "  prepare_timeout = 300\n  executor", 1), []string{`6:3: warning: runners[0].prepare_timeout: 300 means nanoseconds here: if seconds are meant, write "300s"`}},
		"a bad value":        {"log_level = \"loud\"\nlog_format = \"xml\"\n", []string{`1:1: error: log_level: log_level "loud"`, `2:1: error: log_format: log_format "xml"`}},
		"a pull policy":      {sound + "    pull_policy = [\"sometimes\"]\n    memory = \"lots\"\n", []string{`9:5: error: runners[0].docker.pull_policy: pull policy "sometimes"`, `10:5: error: runners[0].docker.memory: memory "lots" is no size`}},
		"an executor":        {strings.Replace(sound, `"docker"`, `"doker"`, 1), []string{`6:3: error: runners[0].executor: unknown executor "doker": did you mean docker?`}},
		"another's executor": {strings.Replace(sound, `"docker"`, `"kubernetes"`, 1), []string{`6:3: warning: runners[0].executor: this runner has no executor "kubernetes"`}},
		"no table":           {strings.Replace(sound, `"docker"`, `"docker-autoscaler"`, 1), []string{"2:3: error: runners[0].autoscaler: the table [runners.autoscaler] is missing"}},
		"no token":           {strings.Replace(sound, "glrt-t3_0123456789", " ", 1), []string{"5:3: error: runners[0].token: The token is empty"}},
		"a legacy url":       {strings.Replace(sound, "example.com", "example.com/ci/", 1), []string{"4:3: warning: runners[0].url: The url ends in /ci"}},
		"a shell":            {strings.Replace(sound, "  executor", "  shell = \"zsh\"\n  executor", 1), []string{`6:3: error: runners[0].shell: shell "zsh" is unknown`}},
	} {
		t.Run(name, func(t *testing.T) {
			findings, err := config.Check(write(t, test.text), vocabulary)
			require.NoError(t, err)
			requireEach(t, test.want, findings)
		})
	}
}

func TestFindingsOfAutoscalersNameTheirPlace(t *testing.T) {
	text := `concurrent = 2
shutdown_timeout = 10
[[runners]]
  name = "one"
  url = "https://gitlab.example.com"
  token = "glrt-t3_0123456789"
  executor = "docker-autoscaler"
  request_concurrency = 2
  [runners.docker]
    image = "busybox"
  [runners.autoscaler]
    plugin = "aws"
    max_instances = 3
    delete_instances_on_shutdown = true
    [runners.autoscaler.plugin_config]
      name = "group"
    [[runners.autoscaler.policy]]
      idle_count = 1
    [[runners.autoscaler.policy]]
      idle_count = 9
      timezone = "Middle/Earth"
[[runners]]
  name = "two"
  url = "https://gitlab.example.com"
  token = "glrt-t3_9876543210"
  executor = "docker-autoscaler"
  request_concurrency = 2
  [runners.docker]
    image = "busybox"
  [runners.autoscaler]
    plugin = "fleeting-plugin-aws"
    plugin_config = {name = "group"}
`
	findings, err := config.Check(write(t, text), vocabulary)
	require.NoError(t, err)
	requireEach(t, []string{
		"1:1: warning: concurrent: concurrent is 2, below max_instances",
		"2:1: warning: shutdown_timeout: shutdown_timeout is 10s",
		"20:7: warning: runners[0].autoscaler.policy[1].idle_count: idle_count is 9",
		"21:7: error: runners[0].autoscaler.policy[1].timezone: timezone \"Middle/Earth\"",
		"32:5: warning: runners[1].autoscaler.plugin_config: The runner entries \"one\", \"two\" have the same plugin",
	}, findings)
	require.Equal(t, "one", findings[0].Runner, "it is this entry's capacity")
	require.Equal(t, "one", findings[3].Runner)
	require.Equal(t, "two", findings[4].Runner)
}

func TestDocumentedExamplesHaveNoFindings(t *testing.T) {
	examples, err := filepath.Glob(filepath.Join("..", "..", "docs", "examples", "*.toml"))
	require.NoError(t, err)
	require.NotEmpty(t, examples)
	for _, example := range examples {
		findings, err := config.Check(example, vocabulary)
		require.NoError(t, err)
		requireEach(t, nil, findings)
	}
}

func TestACheckOfAMissingFileFails(t *testing.T) {
	_, err := config.Check(filepath.Join(t.TempDir(), "config.toml"), vocabulary)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A file is loaded if and only if nothing that the check finds keeps it from being read.
func FuzzCheck(f *testing.F) {
	f.Add(sound)
	f.Add("[[runners]]\n[runners.docker]\npull_policy = 1\n")
	f.Add("a.b = [1, {c = 2}]\n[a.d]\n[[a.e]]\n[[a.e]]\n\"é\" = 1\n")
	f.Add("concurrent = 0\r\n[labels]\na = \"b\"\n")
	f.Add("[[runners]]\nprepare_timeout = 0x10\ntoken_obtained_at = 1979-05-27\n")
	path := filepath.Join(f.TempDir(), "config.toml")
	f.Fuzz(func(t *testing.T, text string) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		findings, err := config.Check(path, vocabulary)
		require.NoError(t, err)
		for _, finding := range findings {
			require.NotEmpty(t, finding.Message)
			require.LessOrEqual(t, finding.Line, strings.Count(text, "\n")+1)
		}
		_, err = config.Load(path)
		if err != nil {
			require.True(t, slices.ContainsFunc(findings, func(f config.Finding) bool { return f.Level == config.LevelError }), "%v", err)
		}
	})
}
