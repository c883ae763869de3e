package manager

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

const (
	// rotateAt is the part of a token's life after which it is exchanged.
	rotateAt = 0.75
	// rotationPause is how long an exchange that failed is not tried again.
	rotationPause = time.Minute
)

// rotationDue is when an entry's token is to be exchanged; zero is never.
func rotationDue(runner *config.Runner) time.Time {
	if runner.TokenObtainedAt.IsZero() || runner.TokenExpiresAt.IsZero() || runner.FeatureFlags[featureflags.DisableTokenRotation] {
		return time.Time{}
	}
	life := runner.TokenExpiresAt.Sub(runner.TokenObtainedAt)
	return runner.TokenObtainedAt.Add(time.Duration(float64(life) * rotateAt))
}

// rotateTokens exchanges the tokens whose time has come, one after the other, and saves the file after
// each. tried are the times of exchanges by token; it is the caller's to keep.
func (m *Manager) rotateTokens(ctx context.Context, tried map[string]time.Time) {
	for _, runner := range m.Config().Runners {
		due := rotationDue(runner)
		if due.IsZero() || time.Now().Before(due) || time.Since(tried[runner.Token]) < rotationPause || ctx.Err() != nil {
			continue
		}
		tried[runner.Token] = time.Now()
		m.rotate(ctx, runner)
	}
}

// oldToken is one that was exchanged.
type oldToken struct{ url, token string }

// newToken is what stands in the place of one, until the file has it.
type newToken struct {
	network.RunnerIdentity
	// complained says that the failure to save it was told.
	complained bool
}

// rotate exchanges an entry's token.
func (m *Manager) rotate(ctx context.Context, runner *config.Runner) {
	log := m.log.WithFields(logrus.Fields{"runner": runner.ShortToken(), "runner_name": runner.Name})
	file, err := config.Load(m.options.ConfigPath)
	if err != nil {
		log.WithError(err).Error("The token cannot be exchanged before it expires: the configuration cannot be loaded")
		return
	}
	if !slices.ContainsFunc(file.Runners, func(other *config.Runner) bool { return other.URL == runner.URL && other.Token == runner.Token }) {
		return
	}
	// The exchange is not given up half-way: the server would know a token that nobody here does.
	identity, err := m.options.Network.ResetToken(context.WithoutCancel(ctx), network.CredentialsOf(runner), m.options.SystemID)
	if err != nil {
		log.WithError(err).WithField("expires", runner.TokenExpiresAt).Error("The token could not be exchanged before it expires")
		return
	}
	m.loading.Lock()
	defer m.loading.Unlock()
	m.exchanged[oldToken{runner.URL, runner.Token}] = &newToken{RunnerIdentity: identity}
	m.saveTokens()
}

// saveTokensAgain tries again what failed before.
func (m *Manager) saveTokensAgain() {
	m.loading.Lock()
	defer m.loading.Unlock()
	if len(m.exchanged) > 0 {
		m.saveTokens()
	}
}

// errNoEntry: somebody is writing the file, or has removed the entry from it.
var errNoEntry = errors.New("the file has no entry with the former token")

// saveTokens puts the new tokens into the file and into force. The file is read for it, so that nothing is lost that
// somebody wrote during the exchange. Where that fails the tokens are kept for another try. The caller holds loading.
func (m *Manager) saveTokens() {
	file, err := config.Load(m.options.ConfigPath)
	if err == nil && !m.adopt(file) {
		err = errNoEntry
	}
	if err == nil {
		err = file.Save()
	}
	if err == nil {
		m.options.Metrics.configSaved.Inc()
		clear(m.exchanged)
		m.apply(file)
		return
	}
	if m.tellUnsaved(err) {
		m.options.Metrics.configNotSaved.Inc()
		own := withOwnRunners(m.Config())
		m.adopt(own)
		m.apply(own)
	}
}

// tellUnsaved says once of each token that it is not in the file. It returns whether there was anything to say.
func (m *Manager) tellUnsaved(err error) bool {
	news := false
	for old, token := range m.exchanged {
		if !token.complained {
			token.complained, news = true, true
			m.log.WithError(err).WithField("runner", config.ShortToken(old.token)).
				Error("The new token could not be saved: this process goes on with it and tries again, a restart before that will not find it")
		}
	}
	return news
}

// adopt replaces the tokens in a file that were exchanged, and says whether there were any. The caller holds loading.
func (m *Manager) adopt(file *config.File) bool {
	found := false
	for _, entry := range file.Runners {
		identity, ok := m.exchanged[oldToken{entry.URL, entry.Token}]
		if !ok {
			continue
		}
		found = true
		former := *entry
		for _, known := range m.Config().Runners {
			if known.URL == entry.URL && known.Token == entry.Token {
				former = *known
			}
		}
		entry.Continue(&former)
		entry.Token, entry.TokenObtainedAt, entry.TokenExpiresAt = identity.Token, identity.TokenObtainedAt, identity.TokenExpiresAt
	}
	return found
}

// withOwnRunners is a copy whose entries can be changed.
func withOwnRunners(file *config.File) *config.File {
	out := *file
	out.Runners = nil
	for _, runner := range file.Runners {
		entry := *runner
		out.Runners = append(out.Runners, &entry)
	}
	return &out
}
