package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const (
	// suspendedSuffix on a container's name marks an instance that is, or is about to be, suspended.
	// The name is the one thing of a container that can be changed and that a listing shows, so the
	// mark outlives this process.
	suspendedSuffix = ".suspended"

	// shutDownGrace is how long an instance may take to shut down.
	shutDownGrace = 30 * time.Second
)

// instanceOf returns the instance a container's name belongs to.
func instanceOf(name string) (id string, suspended bool) {
	return strings.CutSuffix(name, suspendedSuffix)
}

// Suspend shuts instances down and keeps their disks. It returns before they are down.
func (g *InstanceGroup) Suspend(ctx context.Context, instances []string) ([]string, error) {
	return g.change(ctx, instances, func(id string, c container, suspended bool) error {
		if suspended {
			return nil
		}
		if c.state != containerRunning {
			return fmt.Errorf("suspending instance %q: its container is %s", id, c.state)
		}
		if !g.lives.begin(id, provider.StateSuspending) {
			return fmt.Errorf("suspending instance %q: it is being deleted", id)
		}
		if err := g.engine.Rename(ctx, id, id+suspendedSuffix); err != nil {
			g.lives.end(id, provider.StateSuspending, "")
			return fmt.Errorf("marking instance %q as suspended: %w", id, err)
		}
		g.shutDown(id)
		return nil
	})
}

// Resume starts suspended instances. It returns before they are up.
func (g *InstanceGroup) Resume(ctx context.Context, instances []string) ([]string, error) {
	return g.change(ctx, instances, func(id string, c container, suspended bool) error {
		if !suspended {
			return nil
		}
		if c.state != containerExited {
			return fmt.Errorf("resuming instance %q: its container is %s", id, c.state)
		}
		if g.lives.begin(id, provider.StateResuming) {
			g.log.Info("resuming instance", "instance", id)
			g.work.Go(func() { g.resume(id) })
		}
		return nil
	})
}

// change applies fn to instances and returns those for which it went well.
func (g *InstanceGroup) change(ctx context.Context, instances []string, fn func(id string, c container, suspended bool) error) ([]string, error) {
	if len(instances) == 0 {
		return nil, nil
	}
	found, err := g.containersByInstance(ctx)
	if err != nil {
		return nil, err
	}
	var succeeded []string
	var errs []error
	for _, id := range instances {
		c, ok := found[id]
		if !ok {
			errs = append(errs, fmt.Errorf("group %q has no instance %q", g.shape.name, id))
			continue
		}
		_, suspended := instanceOf(c.name)
		if err := fn(id, c, suspended); err != nil {
			errs = append(errs, err)
			continue
		}
		succeeded = append(succeeded, id)
	}
	return succeeded, errors.Join(errs...)
}

// finishSuspending shuts down an instance that carries the mark and runs: a former process was
// suspending or resuming it.
func (g *InstanceGroup) finishSuspending(id string) {
	if g.lives.begin(id, provider.StateSuspending) {
		g.shutDown(id)
	}
}

// shutDown ends an instance that carries the mark and whose state is Suspending.
func (g *InstanceGroup) shutDown(id string) {
	g.log.Info("suspending instance", "instance", id)
	g.work.Go(func() {
		marked := id + suspendedSuffix
		err := g.engine.Stop(g.ctx, marked, shutDownGrace)
		if err != nil && g.ctx.Err() == nil {
			g.log.Error("cannot suspend an instance", "instance", id, "err", err)
			g.rename(marked, id)
		}
		g.lives.end(id, provider.StateSuspending, "")
	})
}

// resume starts an instance that carries the mark. The mark goes once the container runs: an instance
// without it that does not run is taken for dead. One that does not come up is suspended again.
func (g *InstanceGroup) resume(id string) {
	begun := time.Now()
	err := g.unmark(id)
	if err == nil {
		err = g.awaitStarted(id)
	}
	switch {
	case err == nil:
		if g.lives.end(id, provider.StateResuming, provider.StateRunning) {
			g.log.Info("instance is up again", "instance", id, "took", time.Since(begun).Round(time.Millisecond).String())
		}
	case g.ctx.Err() != nil:
		// The next process finds it running and waits for it, or finds the mark and suspends it.
		g.lives.end(id, provider.StateResuming, "")
	case g.lives.state(id) == provider.StateResuming:
		g.log.Error("cannot resume an instance", "instance", id, "err", err)
		g.suspendAgain(id)
		g.lives.end(id, provider.StateResuming, "")
	}
}

func (g *InstanceGroup) unmark(id string) error {
	marked := id + suspendedSuffix
	if err := g.engine.Start(g.ctx, marked); err != nil {
		return fmt.Errorf("starting its container: %w", err)
	}
	if err := g.engine.Rename(g.ctx, marked, id); err != nil {
		return fmt.Errorf("removing its suspension mark: %w", err)
	}
	return nil
}

// suspendAgain puts the mark back before it stops the container. Either name may be the present one.
func (g *InstanceGroup) suspendAgain(id string) {
	marked := id + suspendedSuffix
	if _, err := g.engine.Container(g.ctx, id); err == nil {
		g.rename(id, marked)
	}
	if err := g.engine.Stop(g.ctx, marked, shutDownGrace); err != nil {
		g.log.Error("cannot stop an instance that did not resume", "instance", id, "err", err)
	}
}

func (g *InstanceGroup) rename(name, newName string) {
	if err := g.engine.Rename(g.ctx, name, newName); err != nil {
		g.log.Error("cannot rename a container", "container", name, "new_name", newName, "err", err)
	}
}
