package docker

import (
	"context"
	"fmt"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

const (
	pulseInterval = 30 * time.Second
	// silenceLimit is how long an engine may give no sign of life. It is long: a machine that is short of memory or
	// of disk bandwidth may stand still for a while, and go on with its jobs afterwards.
	silenceLimit = 3 * time.Minute
)

// Watch asks the engine of a machine for signs of life, until ctx ends. Its error says that an engine which answered
// once was silent for so long that it must be taken for one that has ended; see Stopped. Nothing is held open between
// the signs.
func (p *Provider) Watch(ctx context.Context, runner *config.Runner, env executors.Environment) error {
	last, answered := time.Now(), false
	for pause.For(ctx, pulseInterval) == nil {
		err := p.pulse(ctx, runner, env)
		switch {
		case err == nil:
			last, answered = time.Now(), true
		case ctx.Err() == nil && answered && time.Since(last) >= silenceLimit:
			return stoppedError{fmt.Errorf("the Docker engine has not answered for %s: %w", silenceLimit, err)}
		}
	}
	return nil
}

// pulse asks for one sign of life.
func (p *Provider) pulse(ctx context.Context, runner *config.Runner, env executors.Environment) error {
	ctx, stop := context.WithTimeout(ctx, pulseInterval)
	defer stop()
	c, leave := p.visit(runner, env)
	defer leave()
	l, err := p.open(ctx, ctx, c)
	if err != nil {
		return err
	}
	defer l.close()
	return l.engine.Ping(ctx)
}
