package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

// build is the user's container.
type build struct {
	image images.Image
	// hosts are the lines that let it find services.
	hosts []string
	// id is empty while there is no container.
	id string
	// ahead is the container that is made while the sources are fetched, nil if none is.
	ahead *event[created]
	// owned says that the directories were given to the image's user already.
	owned bool
}

// created is a container that was made, or why it was not.
type created struct {
	id  string
	err error
}

// runBuild runs a script in the user's container. A container that somebody removed meanwhile is made
// anew, as often as the job allows.
func (e *executor) runBuild(ctx context.Context, stage common.Stage) error {
	if err := e.volumesOpen(ctx); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		id, err := e.runBuildOnce(ctx, stage)
		if err == nil || ctx.Err() != nil || id == "" || !docker.IsNotFound(err) {
			return err
		}
		e.build.id = ""
		if attempt >= e.job.Settings.SectionAttempts {
			return fmt.Errorf("execution attempts exceeded: %w", err)
		}
		e.job.Log.Warn("Container %q not found or removed. Will retry...", id)
		e.job.Log.Print("Retrying %s", stage.Name)
	}
}

func (e *executor) runBuildOnce(ctx context.Context, stage common.Stage) (string, error) {
	p, err := e.startBuild(ctx)
	if err != nil {
		id := e.build.id
		e.discardBuild(ctx)
		return id, e.startError(ctx, err)
	}
	defer p.close()
	e.user.begin(p.id)
	defer e.user.end()
	e.giveOwnership(ctx)
	p.feed(stage.Script, stage.Stdout, stage.Stderr)

	code, err := p.wait(ctx)
	switch {
	case ctx.Err() != nil:
		e.terminate(ctx, p)
		return p.id, fmt.Errorf("%s was stopped: %w", stage.Name, context.Cause(ctx))
	case errors.Is(err, errAlive):
		e.job.Log.Warn("The output of the container ended while the container went on: it closed it, or the connection was lost. The container is stopped.")
		code, err = e.stopLingering(ctx, p)
	case err != nil && !docker.IsNotFound(err):
		code, err = e.waitAgain(ctx, p, err)
	}
	if err != nil {
		return p.id, err
	}
	if err := p.outputError(); err != nil {
		e.log.WithError(err).Warning("output of a container was cut short")
		e.job.Log.Warn("Output of the container was cut short: %v", err)
	}
	if code == 0 {
		return p.id, nil
	}
	e.explainExit(ctx, p.id)
	return p.id, common.ExitError(code)
}

// startBuild starts the container, after making it if there is none or if it is gone.
func (e *executor) startBuild(ctx context.Context) (*process, error) {
	if err := e.takeAhead(ctx); err != nil {
		return nil, err
	}
	if e.build.id != "" {
		p, err := startProcess(ctx, e.life, e.engine, e.build.id)
		if !docker.IsNotFound(err) {
			return p, err
		}
		e.build.id = ""
	}
	if err := e.createBuild(ctx); err != nil {
		return nil, err
	}
	return startProcess(ctx, e.life, e.engine, e.build.id)
}

// takeAhead takes the container that was made ahead, if there is one.
func (e *executor) takeAhead(ctx context.Context) error {
	ahead := e.build.ahead
	if ahead == nil {
		return nil
	}
	if err := e.findImage(ctx); err != nil {
		return err
	}
	select {
	case <-ahead.done:
	case <-ctx.Done():
		// It is still being made. A later stage takes it, or the clean-up ends that.
		return context.Cause(ctx)
	}
	e.build.ahead = nil
	e.build.id = ahead.value.id
	return ahead.value.err
}

// discardBuild removes a container whose start failed or was given up. It may run all the same, with its
// input at an end, and must not be taken for one that ran a later stage's script.
func (e *executor) discardBuild(ctx context.Context) {
	if e.build.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := e.engine.ContainerRemove(ctx, e.build.id, !e.plan.KeepVolumes); err != nil && !docker.IsNotFound(err) {
		e.log.WithError(err).Warning("removing a container that did not start failed; it is tried again at the end of the job")
	}
	e.build.id = ""
}

func (e *executor) createBuild(ctx context.Context) error {
	if err := e.findImage(ctx); err != nil {
		return err
	}
	id, err := e.create(ctx, blueprint.On(e.plan.Build, e.build.image.Reference(), e.build.hosts))
	e.build.id = id
	return err
}

// findImage tells the user which image a container is made of.
func (e *executor) findImage(ctx context.Context) error {
	found, err := e.images.Get(ctx, e.job.Log, e.plan.Image.Request)
	e.build.image = found
	return err
}

// createAhead makes the container while other stages run. What is wrong with it is told when it is
// wanted.
func (e *executor) createAhead(image images.Image) {
	spec := blueprint.On(e.plan.Build, image.Reference(), e.build.hosts)
	ahead := &event[created]{done: make(chan struct{})}
	e.build.ahead = ahead
	e.background.Go(func() {
		defer close(ahead.done)
		ahead.value.id, ahead.value.err = e.create(e.work, spec)
	})
}

// startError classifies why a container could not be made or started.
func (e *executor) startError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var classified *common.BuildError
	if docker.IsInvalid(err) && !errors.As(err, &classified) {
		return common.Fail(common.RunnerConfigurationError, err)
	}
	return err
}

// createGrace is how long a container's creation goes on when its job is given up: an engine that was
// asked finishes it anyway, and what it made must be known to be removed.
const createGrace = 5 * time.Second

// create makes a container. It is known to the registry before the engine knows it.
func (e *executor) create(ctx context.Context, spec docker.Container) (string, error) {
	e.made.addContainer(spec.Name)
	patient, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(createGrace):
			cancel(context.Cause(ctx))
		case <-patient.Done():
		}
	})
	defer stop()
	id, warnings, err := e.engine.ContainerCreate(patient, spec)
	if docker.IsConflict(err) {
		// The name was this job's before: what has it is a container that was given up.
		if removeErr := e.engine.ContainerRemove(patient, spec.Name, !e.plan.KeepVolumes); removeErr != nil && !docker.IsNotFound(removeErr) {
			return "", fmt.Errorf("%w (removing the former container: %w)", err, removeErr)
		}
		id, warnings, err = e.engine.ContainerCreate(patient, spec)
	}
	if err != nil {
		return "", e.startError(ctx, err)
	}
	for _, warning := range warnings {
		e.log.WithField("container", spec.Name).Warn(warning)
	}
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	return id, nil
}

// explainExit tells the user why a container failed where its exit code does not.
func (e *executor) explainExit(ctx context.Context, id string) {
	answer, err := e.engine.ContainerInspect(ctx, id)
	if err != nil || answer.ContainerJSONBase == nil || answer.State == nil {
		return
	}
	if answer.State.OOMKilled {
		limit := "the memory of the machine"
		if configured := e.job.Runner.Docker.Memory; configured != "" {
			limit = "memory = \"" + configured + "\" in [runners.docker]"
		}
		e.job.Log.Error("The kernel killed a process of the container because it ran out of memory (limit: %s)", limit)
	}
	if text := strings.TrimSpace(answer.State.Error); text != "" {
		e.job.Log.Error("The container ended with an error: %s", text)
	}
}

// waitAgain asks for the end of a container when the answer was lost on the way.
func (e *executor) waitAgain(ctx context.Context, p *process, lost error) (int, error) {
	lost = fmt.Errorf("waiting for the container: %w", lost)
	for range waitAttempts {
		if !e.answers(ctx) && ctx.Err() == nil {
			return 0, stopped(lost)
		}
		e.tellOfLostOutput(ctx, p)
		select {
		case exit := <-e.engine.ContainerWait(ctx, p.id, true):
			if exit.Err == nil {
				p.drain(ctx)
				return exit.Code, nil
			}
			lost = fmt.Errorf("waiting for the container: %w", exit.Err)
		case <-ctx.Done():
		}
		if pause.For(ctx, waitPause) != nil {
			e.terminate(ctx, p)
			return 0, context.Cause(ctx)
		}
	}
	return 0, lost
}

// tellOfLostOutput tells the user of a container that goes on although the connection to its output is lost, as
// is one that outlives its engine.
func (e *executor) tellOfLostOutput(ctx context.Context, p *process) {
	if p.outputLost || !p.outputEnded() {
		return
	}
	answer, err := e.engine.ContainerInspect(ctx, p.id)
	if err != nil || answer.ContainerJSONBase == nil || answer.State == nil || !answer.State.Running {
		return
	}
	p.outputLost = true
	e.job.Log.Warn("The connection to the Docker engine was lost. The script goes on, but what it prints from here on is not shown.")
}

// nativeStop says whether containers are stopped by the engine's own signal alone. Where a container sees
// the processes of others, asking all of them to end would reach too far.
func (e *executor) nativeStop() bool {
	return e.server.OS != "linux" || e.job.Runner.Docker.PidMode != "" || e.job.Flags.IsOn(featureflags.NativeContainerStop)
}
