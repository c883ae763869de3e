package commands_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// flagRow is a line of testdata/entry-flags: a flag that operators know, its variable, and its key.
type flagRow struct{ name, env, key string }

func flagRows(t *testing.T) []flagRow {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", "entry-flags"))
	require.NoError(t, err)
	defer file.Close()
	var rows []flagRow
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		require.Len(t, fields, 3, lines.Text())
		rows = append(rows, flagRow{fields[0], strings.TrimPrefix(fields[1], "-"), fields[2]})
	}
	require.NoError(t, lines.Err())
	require.Greater(t, len(rows), 140)
	return rows
}

// register registers with more arguments; it returns the saved entry as it stands in the file.
func register(t *testing.T, args ...string) map[string]any {
	t.Helper()
	c := gitlab(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	base := []string{"register", "--config", path, "--non-interactive", "--url", c.URL(), "--token", c.RunnerToken(), "--name", "n", "--executor", "docker"}
	if !strings.Contains(strings.Join(args, " "), "--docker-image") && os.Getenv("DOCKER_IMAGE") == "" {
		args = append(args, "--docker-image", "busybox")
	}
	_, stderr, err := run(t, "", append(base, args...)...)
	require.NoError(t, err, stderr)
	var document struct {
		Runners []map[string]any `toml:"runners"`
	}
	_, err = toml.DecodeFile(path, &document)
	require.NoError(t, err)
	require.Len(t, document.Runners, 1)
	return document.Runners[0]
}

// candidates are values of all kinds; a flag of any kind takes at least one of them.
var candidates = []string{"90", "true", "90s", "image:true"}

func lookUp(entry map[string]any, key string) (any, bool) {
	var value any = entry
	for part := range strings.SplitSeq(key, ".") {
		table, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = table[part]; !ok {
			return nil, false
		}
	}
	return value, true
}

func TestEveryKnownFlagAndItsVariableSetTheirKey(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	for _, row := range flagRows(t) {
		t.Run(row.name, func(t *testing.T) {
			if strings.HasPrefix(row.key, "ssh.") || strings.HasPrefix(row.key, "custom.") {
				// Accepted, and without effect here.
				entry := register(t, "--"+row.name+"=1", "--docker-image", "busybox")
				_, there := lookUp(entry, row.key)
				require.False(t, there)
				return
			}
			value := candidate(t, row)
			entry := register(t, "--"+row.name+"="+value)
			byFlag, there := lookUp(entry, row.key)
			require.True(t, there, "%s is not set: %v", row.key, entry)
			if row.env == "" {
				return
			}
			t.Setenv(row.env, value)
			byVariable, _ := lookUp(register(t), row.key)
			require.Equal(t, byFlag, byVariable)
			t.Setenv(row.env, "")
			if row.name != "docker-image" {
				_, _ = lookUp(register(t), row.key) // an empty variable is no value, so no error either
			}
		})
	}
}

// candidate finds a value that the flag takes.
func candidate(t *testing.T, row flagRow) string {
	t.Helper()
	dir := t.TempDir()
	for _, value := range candidates {
		// Without a server this goes wrong; the question is which way.
		_, _, err := run(t, "", "register", "--config", filepath.Join(dir, "c.toml"), "--non-interactive", "--"+row.name+"="+value)
		require.Error(t, err)
		if !strings.Contains(err.Error(), "--"+row.name) && !strings.Contains(err.Error(), "invalid") && !strings.Contains(err.Error(), "not defined") {
			return value
		}
	}
	require.Fail(t, "the flag takes nothing", row.name)
	return ""
}

func TestListsTakeOneElementPerOccurrenceAndOneFromTheEnvironment(t *testing.T) {
	entry := register(t, "--docker-volumes", "/a,b:/c", "--docker-volumes", "/cache", "-docker-dns=1.1.1.1", "--docker-pull-policy", "always,if-not-present",
		"--docker-services_devices", `{"*":["/dev/null:/dev/null"]}`)
	volumes, _ := lookUp(entry, "docker.volumes")
	require.Equal(t, []any{"/a,b:/c", "/cache"}, volumes)
	policy, _ := lookUp(entry, "docker.pull_policy")
	require.Equal(t, []any{"always", "if-not-present"}, policy)
	dns, _ := lookUp(entry, "docker.dns")
	require.Equal(t, []any{"1.1.1.1"}, dns)
	devices, _ := lookUp(entry, "docker.services_devices.*")
	require.Equal(t, []any{"/dev/null:/dev/null"}, devices)
	t.Setenv("RUNNER_ENV", "A=1,2")
	environment, _ := lookUp(register(t), "environment")
	require.Equal(t, []any{"A=1,2"}, environment)
}

func TestAFreshConfigurationLooksLikeTheKnownOne(t *testing.T) {
	c := gitlab(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	_, stderr, err := run(t, "", "register", "--config", path, "--non-interactive", "--url", c.URL(), "--token", c.RunnerToken(),
		"--name", "build-01", "--executor", "docker", "--docker-image", "alpine:3")
	require.NoError(t, err, stderr)
	file, err := config.Load(path)
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	got := strings.NewReplacer(c.URL(), "https://gitlab.example.com/", c.RunnerToken(), "glrt-t3_xyz",
		"id = 1\n", "id = 42\n", file.Runners[0].TokenObtainedAt.Format("2006-01-02T15:04:05Z"), "2026-08-22T10:00:00Z").Replace(string(text))
	want, err := os.ReadFile(filepath.Join("testdata", "registered.toml"))
	require.NoError(t, err)
	require.Equal(t, string(want), got)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
}
