package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

const (
	// cleanupAttempts is how often removing is tried, each time over a new connection if the former one
	// was lost.
	cleanupAttempts = 3
	cleanupPause    = time.Second
	// removeLimit bounds one round of removing.
	removeLimit = 60 * time.Second
	// reachLimit bounds a new connection.
	reachLimit = 20 * time.Second
)

// Cleanup removes everything the job made. What it cannot remove is left to the next use of the machine.
func (e *executor) Cleanup(ctx context.Context) error {
	if e.machine == nil {
		return nil
	}
	defer e.machine.leave(e.job.Spec.ID)
	e.endWork(errCleanedUp)
	e.background.Wait()
	full := e.lookAtDisk(ctx)
	err := e.removeAll(ctx)
	e.makeRoom(ctx, full)
	if err != nil {
		e.machine.soil()
		e.machine.doubt()
	}
	e.endLife(errCleanedUp)
	if e.link != nil {
		e.link.close()
	}
	return err
}

// removeAll removes in rounds: what failed once may succeed over a new connection. Of a machine that is gone nothing
// is left to remove.
func (e *executor) removeAll(ctx context.Context) error {
	containers, network := e.made.all()
	if e.engine == nil || len(containers) == 0 && network == "" {
		return nil
	}
	for attempt := 1; ; attempt++ {
		err := e.removeRound(ctx)
		if err == nil || attempt == cleanupAttempts {
			return err
		}
		if docker.IsConnectionFailed(err) || errors.Is(err, context.DeadlineExceeded) {
			if failure := e.reconnect(ctx); errors.Is(failure, executors.ErrGone) {
				e.log.WithError(failure).Info("The machine is gone, and what the job made there with it")
				return nil
			}
		}
		if ended := pause.For(ctx, cleanupPause); ended != nil {
			return errors.Join(err, ended)
		}
	}
}

// removeRound removes containers, then what only they used.
func (e *executor) removeRound(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, removeLimit)
	defer cancel()
	containers, network := e.made.all()
	errs := inParallel(containers, func(name string) error {
		err := e.engine.ContainerRemove(ctx, name, !e.plan.KeepVolumes)
		if err != nil && !docker.IsNotFound(err) {
			return fmt.Errorf("failed to remove container %s: %w", name, err)
		}
		e.made.dropContainer(name)
		return nil
	})
	if errs != nil {
		return errs
	}
	errs = inParallel(e.plan.TemporaryVolumes, func(name string) error {
		if err := e.engine.VolumeRemove(ctx, name); err != nil && !docker.IsNotFound(err) {
			return fmt.Errorf("failed to cleanup volumes: %w", err)
		}
		return nil
	})
	if network != "" {
		if err := e.removeNetwork(ctx, network); err != nil {
			errs = errors.Join(errs, fmt.Errorf("failed to remove network for build: %w", err))
		} else {
			e.made.setNetwork("")
		}
	}
	return errs
}

// removeNetwork removes the job's network, with containers that the job itself attached to it.
func (e *executor) removeNetwork(ctx context.Context, name string) error {
	err := e.engine.NetworkRemove(ctx, name)
	if err == nil || docker.IsNotFound(err) {
		return nil
	}
	found, inspectErr := e.engine.NetworkInspect(ctx, name)
	if inspectErr != nil {
		return err
	}
	for id := range found.Containers {
		if err := e.engine.ContainerRemove(ctx, id, true); err != nil && !docker.IsNotFound(err) {
			return err
		}
	}
	if err := e.engine.NetworkRemove(ctx, name); err != nil && !docker.IsNotFound(err) {
		return err
	}
	return nil
}

// reconnect replaces a connection that was lost. Without success the old one stays, and fails again.
func (e *executor) reconnect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachLimit)
	defer cancel()
	err := e.reach(ctx)
	if err != nil && !errors.Is(err, executors.ErrGone) {
		e.log.WithError(err).Warning("reconnecting to clean up after a job failed")
	}
	return err
}

// inParallel calls a function for each name and joins the errors.
func inParallel(names []string, do func(name string) error) error {
	errs := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() { errs[i] = do(name) })
	}
	group.Wait()
	return errors.Join(errs...)
}
