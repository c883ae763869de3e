package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

// helper is the helper container: it is started when the first stage needs it, or when it is foreseen
// that one will, and idles while stages are run in it.
type helper struct {
	// ready is closed when stages may be run.
	ready     chan struct{}
	readyOnce sync.Once

	// mu guards what follows, and makes starting happen once.
	mu    sync.Mutex
	id    string
	hosts []string
	// program is the helper's command, decided when the container is started first.
	program string
	// opened tells when volumes are open to every user; nil before the container runs.
	opened chan struct{}
	// openErr may be read when opened is closed.
	openErr error
}

const (
	// stageEnd is how long a stage that was given up may take to end by itself.
	stageEnd = 10 * time.Second
	// stagePoll is the pause between questions about a command that outlives its output.
	stagePoll = 200 * time.Millisecond
)

func (e *executor) helperIsReady() {
	e.helper.readyOnce.Do(func() { close(e.helper.ready) })
}

// foreseesHelper says whether a stage will need the helper container, as far as that is known before
// the job's image.
func (e *executor) foreseesHelper() bool {
	job := e.job
	for _, dependency := range job.Spec.Dependencies {
		if dependency.ArtifactsFile.Filename != "" {
			return true
		}
	}
	return job.Strategy != plan.StrategyNone || len(job.Spec.Cache) > 0 || len(job.Spec.Artifacts) > 0
}

// runHelper runs a plan in the helper container. A container that somebody removed meanwhile is made
// anew, as often as the job allows.
func (e *executor) runHelper(ctx context.Context, stage common.Stage) error {
	if stage.Input != nil {
		defer stage.Input.Close()
	}
	document, err := json.Marshal(stage.Plan)
	if err != nil {
		return fmt.Errorf("encoding the plan of %s: %w", stage.Name, err)
	}
	for attempt := 1; ; attempt++ {
		id, err := e.startHelper(ctx, e.job.Log)
		if err == nil {
			err = e.runStage(ctx, id, stage, document)
		}
		if err == nil || ctx.Err() != nil || !isGone(err) {
			return err
		}
		e.forgetHelper(id)
		if stage.Input != nil {
			return err
		}
		if attempt >= e.job.Settings.SectionAttempts {
			return fmt.Errorf("execution attempts exceeded: %w", err)
		}
		e.job.Log.Warn("Container %q not found or removed. Will retry...", id)
		e.job.Log.Print("Retrying %s", stage.Name)
	}
}

// isGone says whether a call failed because its container does not run any more.
func isGone(err error) bool { return docker.IsNotFound(err) || docker.IsConflict(err) }

// runStage runs one plan. The command's input stays open while it works: its end tells the helper that
// the stage is given up.
func (e *executor) runStage(ctx context.Context, id string, stage common.Stage, document []byte) error {
	exec, err := e.engine.Exec(ctx, id, docker.Command{Args: []string{e.helperProgram(), "run-stage"}, Stdin: true})
	if err != nil {
		return e.startError(ctx, err)
	}
	defer exec.Close()
	copied := make(chan error, 1)
	go func() { copied <- exec.Copy(stage.Stdout, stage.Stderr) }()
	sent := make(chan error, 1)
	var following sync.WaitGroup
	defer following.Wait()
	if stage.Input != nil {
		defer stage.Input.Close()
	}
	following.Go(func() {
		_, err := exec.Write(document)
		sent <- err
		if err == nil && stage.Input != nil {
			// The stage's own result tells of a stream that was cut.
			_, _ = io.Copy(exec, stage.Input)
		}
	})
	select {
	case err = <-copied:
	case <-ctx.Done():
		e.giveUpStage(ctx, id, exec, copied)
		_ = exec.Close()
		<-sent
		return fmt.Errorf("%s was stopped: %w", stage.Name, context.Cause(ctx))
	}
	_ = exec.Close()
	sendErr := <-sent
	if err != nil {
		return fmt.Errorf("running %s in the helper container: %w", stage.Name, err)
	}
	return e.stageResult(ctx, id, exec.ID, sendErr)
}

// giveUpStage tells a stage to end; one that does not is ended with its container.
func (e *executor) giveUpStage(ctx context.Context, id string, exec *docker.Exec, copied <-chan error) {
	_ = exec.CloseWrite()
	select {
	case <-copied:
		return
	case <-time.After(stageEnd):
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if err := e.engine.ContainerRemove(ctx, id, !e.plan.KeepVolumes); err != nil && !docker.IsNotFound(err) {
		e.log.WithError(err).Warning("removing the helper container failed; it is tried again at the end of the job")
	}
	e.forgetHelper(id)
	_ = exec.Close()
	<-copied
}

// stageResult turns the exit code of a stage into its result.
func (e *executor) stageResult(ctx context.Context, id, execID string, sendErr error) error {
	code, err := e.exitCode(ctx, execID)
	switch {
	case err != nil:
		return err
	case code == 0 && sendErr != nil:
		return fmt.Errorf("sending the plan to the helper: %w", sendErr)
	case code == 0:
		return nil
	}
	e.explainExit(ctx, id)
	return common.ExitError(code)
}

// exitCode returns the exit code of a command whose output has ended.
func (e *executor) exitCode(ctx context.Context, execID string) (int, error) {
	for {
		answer, err := e.engine.ExecInspect(ctx, execID)
		if err != nil {
			return 0, fmt.Errorf("asking for the exit code of a command: %w", err)
		}
		if !answer.Running {
			return int(int32(answer.ExitCode)), nil
		}
		if err := pause.For(ctx, stagePoll); err != nil {
			return 0, err
		}
	}
}

// startHelper returns the helper container, after starting it if it does not run.
func (e *executor) startHelper(ctx context.Context, log images.Log) (string, error) {
	e.helper.mu.Lock()
	defer e.helper.mu.Unlock()
	if e.helper.id != "" {
		return e.helper.id, nil
	}
	image, err := e.helperImage(ctx, log)
	if err != nil {
		return "", err
	}
	log.Print("Using effective pull policy of %v for container %s", e.plan.Helper.Policies, image.ID)
	if err := e.carryHelper(ctx); err != nil {
		return "", err
	}
	id, err := e.launchHelper(ctx, image)
	if docker.IsNotFound(err) {
		// The image that was there a while ago is gone.
		e.machine.doubt()
		if image, err = e.helperImage(ctx, log); err != nil {
			return "", err
		}
		id, err = e.launchHelper(ctx, image)
	}
	if err != nil {
		return "", err
	}
	e.helper.id = id
	e.openVolumes(id)
	return id, nil
}

// helperProgram is the helper's command in a container that was started.
func (e *executor) helperProgram() string {
	e.helper.mu.Lock()
	defer e.helper.mu.Unlock()
	return e.helper.program
}

func (e *executor) launchHelper(ctx context.Context, image images.Image) (string, error) {
	id, err := e.create(ctx, blueprint.On(e.plan.HelperContainer, image.Reference(), e.helper.hosts))
	if err != nil {
		return "", err
	}
	if err := e.engine.ContainerStart(ctx, id); err != nil {
		return "", fmt.Errorf("starting the helper container: %w", e.startError(ctx, err))
	}
	return id, nil
}

func (e *executor) forgetHelper(id string) {
	e.helper.mu.Lock()
	defer e.helper.mu.Unlock()
	if e.helper.id == id {
		e.helper.id = ""
	}
}

// openVolumes lets every user write to the job's volumes. It works beside the first stages: only the
// user's container depends on it.
func (e *executor) openVolumes(id string) {
	if len(e.plan.OpenVolumes) == 0 || e.helper.opened != nil {
		return
	}
	opened := make(chan struct{})
	e.helper.opened = opened
	e.background.Go(func() {
		defer close(opened)
		args := append([]string{e.helper.program, "cache-init"}, e.plan.OpenVolumes...)
		output, err := e.command(e.work, id, docker.Command{Args: args})
		if err != nil {
			e.helper.openErr = fmt.Errorf("opening volumes to all users: %w: %s", err, output)
		}
	})
}

// volumesOpen waits until every user may write to the job's volumes.
func (e *executor) volumesOpen(ctx context.Context) error {
	e.helper.mu.Lock()
	opened := e.helper.opened
	e.helper.mu.Unlock()
	if opened == nil {
		return nil
	}
	select {
	case <-opened:
		return e.helper.openErr
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// commandOutput bounds what is kept of a small command's output.
const commandOutput = 4 << 10

// command runs a small command in a container and returns its output. An exit code other than 0 is an
// error.
func (e *executor) command(ctx context.Context, id string, command docker.Command) (string, error) {
	exec, err := e.engine.Exec(ctx, id, command)
	if err != nil {
		return "", err
	}
	stop := context.AfterFunc(ctx, func() { _ = exec.Close() })
	defer stop()
	output := &head{limit: commandOutput}
	err = exec.Copy(output, output)
	_ = exec.Close()
	if ctx.Err() != nil {
		return output.String(), context.Cause(ctx)
	}
	if err != nil {
		return output.String(), err
	}
	code, err := e.exitCode(ctx, exec.ID)
	if err == nil && code != 0 {
		err = exitCodeError(code)
	}
	return output.String(), err
}

// exitCodeError is the exit code of a small command.
type exitCodeError int

func (e exitCodeError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// head keeps the beginning of what is written to it.
type head struct {
	limit int
	mu    sync.Mutex
	kept  bytes.Buffer
}

func (h *head) Write(data []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if left := h.limit - h.kept.Len(); left > 0 {
		h.kept.Write(data[:min(left, len(data))])
	}
	return len(data), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.TrimSpace(h.kept.String())
}
