package manager

import (
	"context"
	"os"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
)

// reloadInterval is how often the file is looked at.
const reloadInterval = 3 * time.Second

// watchConfig follows changes of the file, and makes those that tokens need.
func (m *Manager) watchConfig(ctx context.Context) {
	if m.options.File != nil {
		return
	}
	rotations := map[string]time.Time{}
	for ctx.Err() == nil {
		sleep(ctx, reloadInterval)
		if ctx.Err() == nil {
			m.reload(false)
			m.rotateTokens(ctx, rotations)
		}
	}
}

// reload loads the file if it changed, or in any case when forced. A file that cannot be used leaves
// the old configuration in force, and is complained about until it changes again.
func (m *Manager) reload(forced bool) {
	if m.options.File != nil {
		return
	}
	current := m.Config()
	changed := time.Time{}
	if info, err := os.Stat(m.options.ConfigPath); err == nil {
		changed = info.ModTime()
	}
	m.mu.Lock()
	known := changed.Equal(m.failedAt) || !changed.After(current.ModTime)
	m.mu.Unlock()
	if known && !forced {
		return
	}
	file, err := config.Load(m.options.ConfigPath)
	if err != nil {
		m.mu.Lock()
		m.failedAt = changed
		m.mu.Unlock()
		m.options.Metrics.ConfigurationFailed()
		m.log.WithError(err).Error("Failed to load config: the old one stays in force")
		return
	}
	m.apply(file)
}

const notHonoured = "The key is known and not honoured by this runner yet: it has no effect"

// warnAbout tells what in a configuration will not do what it says.
func (m *Manager) warnAbout(file *config.File) {
	for _, key := range file.Unknown {
		m.log.WithField("key", key).Warning("Unknown key in the configuration file: it has no effect")
	}
	for _, key := range ignoredGlobally(file) {
		m.log.WithField("key", key).Warning(notHonoured)
	}
	for _, runner := range file.Runners {
		entry := m.log.WithField("runner_name", runner.Name)
		if strings.TrimSpace(runner.Token) == "" {
			entry.Warning("The token is empty: this runner asks for no jobs")
		}
		if strings.HasSuffix(strings.TrimRight(runner.URL, "/"), "/ci") {
			entry.Warning("The url ends in /ci, which is no longer needed: remove it")
		}
		if runner.FeatureFlags[featureflags.DisableTokenRotation] && !runner.TokenExpiresAt.IsZero() {
			entry.WithField("expires", runner.TokenExpiresAt).Warning("The token expires and is not exchanged before: " + featureflags.DisableTokenRotation + " is on")
		}
		for _, key := range ignored(runner) {
			entry.WithField("key", key).Warning(notHonoured)
		}
		for _, warning := range autoscalerWarnings(file, runner) {
			entry.Warning(warning)
		}
	}
	for _, warning := range sharedWarnings(file) {
		m.log.Warning(warning)
	}
	m.warnAboutLongPolling(file)
}

// warnAboutLongPolling names settings with which one held request keeps others from being made.
func (m *Manager) warnAboutLongPolling(file *config.File) {
	var findings []string
	if file.Concurrent < len(file.Runners) {
		findings = append(findings, "concurrent is smaller than the number of runners")
	}
	for _, runner := range file.Runners {
		if runner.RequestConcurrency <= 1 && len(file.Runners) > 1 {
			findings = append(findings, "request_concurrency of "+runner.Name+" is 1")
			break
		}
	}
	for _, runner := range file.Runners {
		if runner.Limit > 0 && runner.Limit <= 2 && runner.RequestConcurrency <= 1 {
			findings = append(findings, "limit of "+runner.Name+" is small while its request_concurrency is 1")
			break
		}
	}
	if len(findings) > 0 {
		m.log.Warningf("CONFIGURATION: Long polling issues detected. Jobs may wait while a request is held: %s", strings.Join(findings, "; "))
	}
}
