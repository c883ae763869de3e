package docker

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
)

// warmer stands in the place of a job's id on a machine that is visited without one: no job has it.
const warmer = 0

// warm does for a machine what the first job on it would have to do.
func warm(ctx context.Context, p *Provider, runner *config.Runner, env executors.Environment) error {
	if runner.Docker == nil {
		return configurationError("missing docker configuration")
	}
	c, leave := p.visit(runner, env)
	defer leave()
	m, log := c.machine, c.log
	life, end := context.WithCancelCause(ctx)
	defer end(errWarmed)
	l, err := p.open(ctx, life, c)
	if err != nil {
		return err
	}
	defer l.close()

	if m.beginSweep() {
		s := sweeper{engine: l.engine, runner: runner, machine: m, process: p.process, log: log, now: time.Now}
		s.run(ctx)
	}
	wanted, err := blueprint.HelperImage(runner, l.server, p.version, func(text string) string { return text })
	if err != nil {
		return err
	}
	source := helperSource{
		engine: l.engine, machine: m, dirs: p.helperDirs, log: log,
		getter: &images.Getter{
			Engine:   l.engine,
			Keychain: &images.Keychain{Variable: registryVariable(runner), Home: p.home},
			Pulls:    &m.pulls,
		},
	}
	first := source.warm(ctx, wanted)
	rest := prefetcher{getter: source.getter, runner: runner, log: log}
	if runner.Autoscaler != nil {
		rest.recent = p.recent.names(runner, time.Now(), runner.Autoscaler.PrefetchRecentImages)
	}
	return errors.Join(first, rest.run(ctx))
}

// visit is how to connect to a machine without a job. The machine is to be left.
func (p *Provider) visit(runner *config.Runner, env executors.Environment) (*connector, func()) {
	m := p.machines.enter(machineID(runner, env), warmer)
	log := p.log.WithFields(logrus.Fields{"runner": runner.ShortToken()})
	if env != nil {
		log = log.WithField("instance", env.ID())
	}
	c := &connector{runner: runner, env: env, machine: m, log: log}
	if on, set := runner.FeatureFlags[dialStdioFlag]; set {
		c.stdio = &on
	}
	return c, func() { m.leave(warmer) }
}

// warm gets what stages in the helper's container need. An image of the entry's own is the
// prefetcher's: its name and its credentials may depend on the job; what is put into it does not.
func (s *helperSource) warm(ctx context.Context, wanted blueprint.Helper) error {
	if wanted.Overridden() {
		if _, err := s.withoutPull(ctx, wanted); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	_, err := s.get(ctx, joblog.Discard(s.log), wanted)
	return err
}

var errWarmed = errors.New("the machine was warmed")
