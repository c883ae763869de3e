package manager

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

// reloadInterval is how often the file is looked at.
const reloadInterval = 3 * time.Second

// watchConfig follows changes of the file, and makes those that tokens need.
func (m *Manager) watchConfig(ctx context.Context) {
	if m.options.ConfigPath == "" {
		return
	}
	rotations := map[string]time.Time{}
	for pause.For(ctx, reloadInterval) == nil {
		m.reload(false)
		m.saveTokensAgain()
		m.rotateTokens(ctx, rotations)
	}
}

// reload loads the file if it changed, or in any case when forced. A file that cannot be used leaves
// the old configuration in force, and is complained about until it changes again.
func (m *Manager) reload(forced bool) {
	if m.options.ConfigPath == "" {
		return
	}
	m.loading.Lock()
	defer m.loading.Unlock()
	current := m.Config()
	found := lookAt(m.options.ConfigPath)
	m.mu.Lock()
	// An older file is another one too: it was moved back into place, or the clock was put back.
	known := found == fileVersion{} || found == m.failed || found.modified.Equal(current.ModTime)
	m.mu.Unlock()
	if known && !forced {
		return
	}
	file, err := load(m.options.ConfigPath, found)
	if err != nil {
		m.mu.Lock()
		m.failed = found
		m.mu.Unlock()
		m.options.Metrics.ConfigurationFailed()
		m.log.WithError(err).Error("Failed to load config: the old one stays in force")
		return
	}
	m.adopt(file)
	m.apply(file)
}

// fileVersion tells contents of a file apart. The zero value is that of a missing file.
type fileVersion struct {
	modified time.Time
	size     int64
}

func lookAt(path string) fileVersion {
	info, err := os.Stat(path)
	if err != nil {
		return fileVersion{}
	}
	return fileVersion{modified: info.ModTime(), size: info.Size()}
}

// errNothingThere keeps a moment in which the file is being replaced from ending all fleets.
var errNothingThere = errors.New("the file is missing or empty, as it may be while it is written; to remove all runners, keep a file without [[runners]]")

// load loads a configuration file of which something was found.
func load(path string, found fileVersion) (*config.File, error) {
	file, err := config.Load(path)
	if err == nil && (found.size == 0 || file.ModTime.IsZero()) {
		return nil, fmt.Errorf("configuration file %s: %w", path, errNothingThere)
	}
	return file, err
}

// warnAbout tells what in a configuration will not do what it says.
func (m *Manager) warnAbout(file *config.File) {
	for _, finding := range file.Findings(m.vocabulary()) {
		fields := logrus.Fields{}
		for name, value := range map[string]string{"runner_name": finding.Runner, "key": finding.Key} {
			if value != "" {
				fields[name] = value
			}
		}
		if finding.Line > 0 {
			fields["line"] = finding.Line
		}
		m.log.WithFields(fields).Warning(finding.Message)
	}
}

// vocabulary is what a configuration may name.
func (m *Manager) vocabulary() config.Vocabulary {
	return config.Vocabulary{
		Executors:    slices.Sorted(maps.Keys(m.options.Providers)),
		FeatureFlags: slices.Collect(maps.Keys(featureflags.Defaults())),
	}
}
