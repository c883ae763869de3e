package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// executor runs one try at a job. It follows the contract of common.Executor.
type executor struct {
	provider *Provider
	job      *common.Job
	env      executors.Environment
	log      logrus.FieldLogger
	// suffix tells the objects of this try from all others.
	suffix string

	// life lasts from Connect to the end of Cleanup, whatever becomes of the job's context.
	life    context.Context
	endLife context.CancelCauseFunc
	// background works beside the stages, until Cleanup ends its context, work.
	background sync.WaitGroup
	work       context.Context
	endWork    context.CancelCauseFunc

	connector *connector
	machine   *machine
	link      *link
	// engine and server are the link's.
	engine engine
	server docker.Server
	made   *registry

	plan   *blueprint.Plan
	images *images.Getter
	helper helper
	build  build
	// user is the build container that runs, for terminals.
	user userContainer
}

var _ common.Executor = (*executor)(nil)

// errCleanedUp is the cause by which an executor's life ends.
var errCleanedUp = errors.New("the job was cleaned up")

func newExecutor(p *Provider, job *common.Job, env executors.Environment) *executor {
	e := &executor{
		provider: p,
		job:      job,
		env:      env,
		log: p.log.WithFields(logrus.Fields{
			"job": job.Spec.ID, "project": job.Spec.Info.ProjectID, "runner": job.Runner.ShortToken(),
		}),
		suffix: randomSuffix(),
		made:   newRegistry(),
	}
	e.helper.ready = make(chan struct{})
	return e
}

func randomSuffix() string {
	var random [8]byte
	// It never fails: see crypto/rand.
	_, _ = rand.Read(random[:])
	return hex.EncodeToString(random[:])
}

// Connect reaches the engine.
func (e *executor) Connect(ctx context.Context) (common.Machine, error) {
	if e.job.Runner.Docker == nil {
		return common.Machine{}, configurationError("missing docker configuration")
	}
	e.life, e.endLife = context.WithCancelCause(context.WithoutCancel(ctx))
	e.work, e.endWork = context.WithCancelCause(e.life)
	if e.env != nil {
		e.log = e.log.WithField("instance", e.env.ID())
	}
	e.machine = e.provider.machines.enter(machineID(e.job.Runner, e.env), e.job.Spec.ID)
	e.connector = &connector{
		runner: e.job.Runner, env: e.env, machine: e.machine, log: e.log, stdio: chosenStdio(e.job),
	}
	if err := e.reach(ctx); err != nil {
		e.machine.doubt()
		if ctx.Err() != nil {
			return common.Machine{}, context.Cause(ctx)
		}
		return common.Machine{}, err
	}
	switch e.server.OS {
	case "linux", "windows", "freebsd":
	default:
		return common.Machine{}, fmt.Errorf("unsupported os type: %s", e.server.OS)
	}
	layout, err := blueprint.Arrange(e.job.Runner, e.server.OS, e.job.Variables.ExpandValue)
	if err != nil {
		return common.Machine{}, err
	}
	return common.Machine{
		OS:              e.server.OS,
		Shell:           layout.Shell,
		Hostname:        blueprint.Hostname(e.job),
		BuildsDir:       layout.BuildsDir,
		CacheDir:        layout.CacheDir,
		SharedBuildsDir: layout.Shared,
		NetworkName:     blueprint.NetworkName(e.job),
	}, nil
}

// reach opens the link to the engine, or a new one in the place of one that was lost.
func (e *executor) reach(ctx context.Context) error {
	opened, err := e.provider.open(ctx, e.life, e.connector)
	if err != nil {
		return err
	}
	if e.link != nil {
		e.link.close()
	}
	e.link, e.engine, e.server = opened, opened.engine, opened.server
	return nil
}

// slot is the number of the job's slot on its machine, -1 without slots.
func (e *executor) slot() int {
	if slotted, ok := e.env.(executors.Slotted); ok {
		return slotted.Slot()
	}
	return -1
}

// HelperReady is closed when the helper container can be started or runs.
func (e *executor) HelperReady() <-chan struct{} { return e.helper.ready }

// Run runs a stage.
func (e *executor) Run(ctx context.Context, stage common.Stage) error {
	if stage.Where == common.InHelper {
		return e.blame(ctx, e.runHelper(ctx, stage))
	}
	return e.blame(ctx, e.runBuild(ctx, stage))
}

// compile makes the plan of the job.
func (e *executor) compile() error {
	plan, err := blueprint.Compile(blueprint.Input{
		Job:      e.job,
		Engine:   e.server,
		Suffix:   e.suffix,
		Manager:  e.provider.process,
		Slot:     e.slot(),
		Version:  e.provider.version,
		ReadFile: os.ReadFile,
	})
	var refused *blueprint.RefusedImageError
	if errors.As(err, &refused) {
		e.job.Log.Error("%s", refused.Explanation())
	}
	if err != nil {
		return err
	}
	e.plan = plan
	e.machine.touch(time.Now(), plan.CacheVolumes...)
	for _, warning := range plan.Warnings {
		e.job.Log.Warn("%s", warning)
	}
	for _, notice := range plan.Notices {
		e.job.Log.Print("%s", notice)
	}
	e.images = &images.Getter{
		Engine: e.engine,
		Keychain: &images.Keychain{
			Variable: e.job.Variables.Get("DOCKER_AUTH_CONFIG"),
			Home:     e.provider.home,
			Payload:  e.job.Spec.Credentials,
		},
		Pulls: &e.machine.pulls,
	}
	return nil
}

func configurationError(format string, args ...any) error {
	return common.Fail(common.RunnerConfigurationError, fmt.Errorf(format, args...))
}
