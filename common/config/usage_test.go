package config_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func TestUsageIsLoggedAsTheFileSays(t *testing.T) {
	const table = "[experimental.usage_logger]\n"
	for name, c := range map[string]struct {
		text  string
		want  *config.UsageRotation
		warns []string
	}{
		"absent":       {"", nil, nil},
		"not enabled":  {table + "[experimental.usage_logger.logrotate]\nlog_dir = \"/a\"", nil, nil},
		"defaults":     {table + "enabled = true", &config.UsageRotation{LogDir: "usage-log", MaxBackupFiles: 14, MaxRotationAge: 24 * time.Hour}, nil},
		"out of range": {table + "enabled = true\n[experimental.usage_logger.logrotate]\nmax_backup_files = -1\nmax_rotation_age = \"-1h\"", &config.UsageRotation{LogDir: "usage-log", MaxBackupFiles: 14, MaxRotationAge: 24 * time.Hour}, nil},
		"all keys": {
			table + "enabled = true\nwriters = [\"logrotate\"]\n[experimental.usage_logger.logrotate]\nlog_dir = \"/a\"\nmax_backup_files = 3\nmax_rotation_age = \"2h\"\nlabels = {one = \"two\"}",
			&config.UsageRotation{LogDir: "/a", MaxBackupFiles: 3, MaxRotationAge: 2 * time.Hour, Labels: map[string]string{"one": "two"}}, nil,
		},
		"deprecated places": {
			table + "enabled = true\nlog_dir = \"/b\"\nmax_backup_files = 4\nmax_rotation_age = \"3h\"\n[experimental.usage_logger.labels]\na = \"b\"\n[experimental.usage_logger.logrotate]\nlog_dir = \"/a\"",
			&config.UsageRotation{LogDir: "/a", MaxBackupFiles: 4, MaxRotationAge: 3 * time.Hour, Labels: map[string]string{"a": "b"}},
			[]string{"log_dir: this place", "max_backup_files: this place", "max_rotation_age: this place", "labels: this place"},
		},
		"another writer too": {
			table + "enabled = true\nwriters = [\"snowplow_billing\", \"logrotate\"]\n[experimental.usage_logger.snowplow_billing]\ncollector_uri = \"x\"",
			&config.UsageRotation{LogDir: "usage-log", MaxBackupFiles: 14, MaxRotationAge: 24 * time.Hour}, []string{"writers: The writer snowplow_billing is known and not honoured"},
		},
		"another writer only": {table + "enabled = true\nwriters = [\"kafka\"]", nil, []string{`writers: unknown writer "kafka": use logrotate`}},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := config.Load(write(t, c.text))
			require.NoError(t, err)
			if c.want != nil && !filepath.IsAbs(c.want.LogDir) {
				c.want.LogDir = filepath.Join(filepath.Dir(file.Path), c.want.LogDir)
			}
			require.Equal(t, c.want, file.Usage())
			var texts []string
			for _, finding := range file.Findings(config.Vocabulary{}) {
				texts = append(texts, finding.String())
			}
			require.Len(t, texts, len(c.warns), texts)
			for _, warning := range c.warns {
				require.Contains(t, strings.Join(texts, "\n"), "experimental.usage_logger."+warning)
			}
			require.NoError(t, file.Save())
			again, err := config.Load(file.Path)
			require.NoError(t, err)
			require.Equal(t, c.want, again.Usage())
		})
	}
}
