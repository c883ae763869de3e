package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/diagnosis"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

const (
	stepDocker = "docker"
	stepHelper = "helper image"

	// examineEngine bounds the questions to an engine.
	examineEngine = 30 * time.Second
)

// Examine tries what jobs of an entry need of an engine, that of env or, if env is nil, the one that the
// configuration names. It changes nothing there.
func (p *Provider) Examine(ctx context.Context, runner *config.Runner, env executors.Environment, report diagnosis.Report) {
	if runner.Docker == nil {
		report.Fail(stepDocker, "the table [runners.docker] is missing", "write it, with the key image at least")
		return
	}
	m := p.machines.enter(machineID(runner, env), warmer)
	defer m.leave(warmer)
	c := &connector{runner: runner, env: env, machine: m, log: p.log.WithFields(logrus.Fields{"runner": runner.ShortToken()})}
	if on, set := runner.FeatureFlags[dialStdioFlag]; set {
		c.stdio = &on
	}
	ctx, stop := context.WithTimeoutCause(ctx, examineEngine, fmt.Errorf("the engine does not answer within %s", examineEngine))
	defer stop()
	life, end := context.WithCancelCause(ctx)
	defer end(errExamined)
	l, err := p.open(ctx, life, c)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		report.Fail(stepDocker, err.Error(), engineRemedy(env, err))
		return
	}
	defer l.close()
	report.OK(stepDocker, fmt.Sprintf("Docker Engine %s on %s/%s, API %s", l.server.Version, l.server.OS, l.server.Arch, l.server.APIVersion))
	p.examineHelper(ctx, runner, l, m, report)
}

var errExamined = errors.New("the machine was examined")

func engineRemedy(env executors.Environment, err error) string {
	where := "on this machine"
	if env != nil {
		where = "on the instance"
	}
	if strings.Contains(err.Error(), "permission denied") {
		return "let the user " + where + " use the engine: usermod --append --groups docker USER"
	}
	if env == nil {
		return "start Docker, or set host in [runners.docker] to where it listens"
	}
	return "check that Docker is installed and started " + where + ", in its image or its start-up script, and that the user of connector_config may use it: docker version"
}

// examineHelper looks where the helper image will come from.
func (p *Provider) examineHelper(ctx context.Context, runner *config.Runner, l *link, m *machine, report diagnosis.Report) {
	wanted, err := blueprint.HelperImage(runner, l.server, p.version, func(text string) string { return text })
	if err != nil {
		report.Fail(stepHelper, err.Error(), "check helper_image and helper_image_flavor in [runners.docker]")
		return
	}
	getter := &images.Getter{Engine: l.engine, Keychain: &images.Keychain{Variable: registryVariable(runner), Home: p.home}, Pulls: &m.pulls}
	_, err = getter.Look(ctx, images.Request{Name: wanted.Name, Policies: []images.Policy{images.Never}})
	if err == nil {
		report.OK(stepHelper, wanted.Name+" is there")
		return
	}
	if !docker.IsNotFound(err) {
		report.Fail(stepHelper, fmt.Sprintf("looking for %s: %v", wanted.Name, err), engineRemedy(nil, err))
		return
	}
	if wanted.Overridden() {
		report.Warn(stepHelper, wanted.Name+" is not there yet: the first job pulls it", "pull it ahead, or put it into the image of the machine")
		return
	}
	archive, err := findArchive(p.helperDirs, wanted.Archives)
	switch {
	case err == nil:
		report.OK(stepHelper, fmt.Sprintf("%s is loaded at the first job, from %s", wanted.Name, archive))
	case errors.Is(err, fs.ErrNotExist):
		report.Warn(stepHelper, fmt.Sprintf("%s is neither there nor in %s: the first job pulls it", wanted.Name, strings.Join(p.helperDirs, ", ")),
			"install the helper images beside this program, or check that the machine reaches the registry")
	default:
		report.Fail(stepHelper, err.Error(), "make the file readable")
	}
}
