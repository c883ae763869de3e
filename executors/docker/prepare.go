package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
)

// Prepare gets the images, starts the services, and starts the helper container if it will be needed.
// What does not depend on each other is done side by side; the log stays in order.
func (e *executor) Prepare(ctx context.Context) error {
	if err := e.compile(); err != nil {
		return err
	}
	e.sweepOnce()
	if err := e.makeNetwork(ctx); err != nil {
		return e.prepareError(ctx, err)
	}
	if err := e.overlap(ctx); err != nil {
		return e.prepareError(ctx, err)
	}
	e.helperIsReady()
	return nil
}

// prepareError prefers the end of the context over what followed from it, and forgets what is known of
// a machine that did not do as expected.
func (e *executor) prepareError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var classified *common.BuildError
	if !errors.As(err, &classified) {
		e.machine.doubt()
	}
	return err
}

// overlap runs the parts of the preparation.
func (e *executor) overlap(ctx context.Context) error {
	shown := &turns{parent: e.job.Log}
	group, ctx := errgroup.WithContext(ctx)
	helperTurn := shown.next()
	services := e.newServices(shown)
	readyTurn := shown.next()
	imageTurn := shown.next()

	helperNeeded := e.foreseesHelper() || services.needHelper()
	hostsKnown := make(chan struct{})
	var found images.Image
	group.Go(func() error {
		defer helperTurn.close()
		if !helperNeeded {
			return nil
		}
		return e.prepareHelper(ctx, helperTurn, hostsKnown)
	})
	group.Go(func() error {
		defer readyTurn.close()
		err := services.start(ctx)
		if err != nil {
			return err
		}
		e.setHosts(services.hosts())
		close(hostsKnown)
		return services.awaitReady(ctx, readyTurn)
	})
	group.Go(func() error {
		defer imageTurn.close()
		var err error
		if found, err = e.images.Get(ctx, imageTurn, e.plan.Image.Request); err != nil {
			return err
		}
		return e.openForUser(ctx, imageTurn, found, hostsKnown)
	})
	shown.show()
	if err := group.Wait(); err != nil {
		return err
	}
	used := []string{e.plan.Image.Request.Name}
	for _, one := range e.plan.Services {
		used = append(used, one.Image.Name)
	}
	e.provider.recent.note(e.job.Runner, time.Now(), used...)
	e.createAhead(found)
	return nil
}

// prepareHelper starts the helper container as early as it can be.
func (e *executor) prepareHelper(ctx context.Context, log images.Log, hostsKnown <-chan struct{}) error {
	if _, err := e.helperImage(ctx, log); err != nil {
		return err
	}
	// On a network that knows names the helper finds services without their addresses.
	if len(e.plan.Services) > 0 && !e.plan.UserNetwork {
		select {
		case <-hostsKnown:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if _, err := e.startHelper(ctx, log); err != nil {
		return err
	}
	e.helperIsReady()
	return nil
}

// openForUser sees to it that the user of the job's image can write to the volumes: root can anyway.
func (e *executor) openForUser(ctx context.Context, log images.Log, found images.Image, hostsKnown <-chan struct{}) error {
	user := e.plan.Build.Config.User
	if user == "" {
		user = found.User
	}
	if images.IsRoot(user) || len(e.plan.OpenVolumes) == 0 {
		return nil
	}
	return e.prepareHelper(ctx, log, hostsKnown)
}

func (e *executor) setHosts(hosts []string) {
	e.build.hosts = hosts
	e.helper.mu.Lock()
	defer e.helper.mu.Unlock()
	e.helper.hosts = hosts
}

func (e *executor) makeNetwork(ctx context.Context) error {
	wanted := e.plan.Network
	if wanted == nil {
		return nil
	}
	e.made.setNetwork(wanted.Name)
	if _, err := e.engine.NetworkCreate(ctx, wanted.Name, wanted.Options); err != nil {
		return fmt.Errorf("creating network for build: %w", err)
	}
	return nil
}
