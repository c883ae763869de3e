package manager

import (
	"context"
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

// rotate exchanges an entry's token. The file is read again for it, so that nothing is lost that somebody
// wrote meanwhile.
func (m *Manager) rotate(ctx context.Context, runner *config.Runner) {
	log := m.log.WithFields(logrus.Fields{"runner": runner.ShortToken(), "runner_name": runner.Name})
	file, err := config.Load(m.options.ConfigPath)
	if err != nil {
		log.WithError(err).Error("The token cannot be exchanged before it expires: the configuration cannot be loaded")
		return
	}
	var entry *config.Runner
	for _, other := range file.Runners {
		if other.URL == runner.URL && other.Token == runner.Token {
			entry = other
		}
	}
	if entry == nil {
		return
	}
	// The exchange is not given up half-way: the server would know a token that nobody here does.
	identity, err := m.options.Network.ResetToken(context.WithoutCancel(ctx), network.CredentialsOf(runner), m.options.SystemID)
	if err != nil {
		log.WithError(err).WithField("expires", runner.TokenExpiresAt).Error("The token could not be exchanged before it expires")
		return
	}
	entry.Continue(runner)
	entry.Token, entry.TokenObtainedAt, entry.TokenExpiresAt = identity.Token, identity.TokenObtainedAt, identity.TokenExpiresAt
	if err := file.Save(); err != nil {
		m.options.Metrics.configNotSaved.Inc()
		log.WithError(err).Error("The new token could not be saved: this process goes on with it, a restart will not find it")
	} else {
		m.options.Metrics.configSaved.Inc()
	}
	m.apply(file)
}
