package config

import (
	"cmp"
	"path/filepath"
	"slices"
	"time"
)

// UsageLogger is [experimental.usage_logger].
type UsageLogger struct {
	Enabled   bool          `toml:"enabled,omitempty"`
	Writers   []string      `toml:"writers,omitempty"`
	Logrotate UsageRotation `toml:"logrotate,omitempty"`
	// SnowplowBilling is carried along.
	SnowplowBilling map[string]any `toml:"snowplow_billing,omitempty"`

	// The deprecated places of the keys of Logrotate.
	LogDir         string            `toml:"log_dir,omitempty"`
	MaxBackupFiles int               `toml:"max_backup_files,omitempty"`
	MaxRotationAge time.Duration     `toml:"max_rotation_age,omitempty"`
	Labels         map[string]string `toml:"labels,omitempty"`
}

// UsageRotation is [experimental.usage_logger.logrotate].
type UsageRotation struct {
	LogDir         string            `toml:"log_dir,omitempty"`
	MaxBackupFiles int               `toml:"max_backup_files,omitempty"`
	MaxRotationAge time.Duration     `toml:"max_rotation_age,omitempty"`
	Labels         map[string]string `toml:"labels,omitempty"`
}

// usageWriter is the writer of usage that there is: files that are rotated.
const usageWriter = "logrotate"

// The defaults of [experimental.usage_logger.logrotate].
const (
	defaultUsageFiles = 14
	defaultUsageAge   = 24 * time.Hour
)

// Usage is where and how the usage of jobs is logged, nil if it is not. Of a key that stands in both places the one of
// the table counts.
func (f *File) Usage() *UsageRotation {
	if f.Experimental == nil || f.Experimental.UsageLogger == nil || !f.Experimental.UsageLogger.Enabled {
		return nil
	}
	u := f.Experimental.UsageLogger
	if !u.writes() {
		return nil
	}
	rotation := UsageRotation{
		LogDir:         cmp.Or(u.Logrotate.LogDir, u.LogDir, filepath.Join(filepath.Dir(f.Path), "usage-log")),
		MaxBackupFiles: cmp.Or(max(u.Logrotate.MaxBackupFiles, 0), max(u.MaxBackupFiles, 0), defaultUsageFiles),
		MaxRotationAge: cmp.Or(max(u.Logrotate.MaxRotationAge, 0), max(u.MaxRotationAge, 0), defaultUsageAge),
		Labels:         u.Logrotate.Labels,
	}
	if len(rotation.Labels) == 0 {
		rotation.Labels = u.Labels
	}
	return &rotation
}

// writes says whether files are among the writers.
func (u *UsageLogger) writes() bool {
	return len(u.Writers) == 0 || slices.Contains(u.Writers, usageWriter)
}

// usage looks for what [experimental.usage_logger] will not do.
func (r *review) usage(u *UsageLogger) {
	const path = "experimental.usage_logger."
	for _, flat := range []struct {
		key string
		set bool
	}{
		{"log_dir", u.LogDir != ""}, {"max_backup_files", u.MaxBackupFiles != 0}, {"max_rotation_age", u.MaxRotationAge != 0}, {"labels", u.Labels != nil},
	} {
		if flat.set {
			r.warn(path+flat.key, "this place of the key is deprecated: write it in [experimental.usage_logger.logrotate]")
		}
	}
	for _, writer := range u.Writers {
		switch writer {
		case usageWriter:
		case "snowplow_billing":
			r.warn(path+"writers", "The writer %s is known and not honoured by this runner: it has no effect", writer)
		default:
			r.warn(path+"writers", "unknown writer %q: use %s", writer, usageWriter)
		}
	}
}
