package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
)

// prefetcher gets images onto a machine before a job asks for them, one after the other, so that a job
// that is there already keeps most of the network.
type prefetcher struct {
	getter *images.Getter
	runner *config.Runner
	// recent are images that jobs of the entry used lately.
	recent []string
	log    logrus.FieldLogger
}

// run gets what jobs of the entry are known to need: its own helper image, its default image, those listed
// in prefetch_images, and those that recent jobs used. Names that depend on the job are left out. An image that cannot be had does
// not keep the others from coming.
func (p *prefetcher) run(ctx context.Context) error {
	names := []string{p.runner.Docker.HelperImage, p.runner.Docker.Image}
	if p.runner.Autoscaler != nil {
		names = append(names, p.runner.Autoscaler.PrefetchImages...)
	}
	names = append(names, p.recent...)
	var errs []error
	for i, name := range names {
		if name == "" || strings.Contains(name, "$") || slices.Contains(names[:i], name) {
			continue
		}
		if err := p.get(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("prefetching image %s: %w", name, err))
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return errors.Join(errs...)
}

// get applies the policies that jobs would: what they must not pull is not pulled here.
func (p *prefetcher) get(ctx context.Context, name string) error {
	policies, err := images.Policies(name, nil, p.runner.Docker)
	if err != nil {
		return err
	}
	request := images.Request{Name: name, Policies: policies}
	if policies[0] == images.Never {
		return nil
	}
	if _, err := p.getter.Look(ctx, request); err == nil && policies[0] == images.IfNotPresent {
		return nil
	}
	started := time.Now()
	if _, err := p.getter.Get(ctx, joblog.Discard(p.log), request); err != nil {
		return err
	}
	p.log.WithFields(logrus.Fields{"image": name, "took": time.Since(started)}).Info("image is on the instance ahead of its jobs")
	return nil
}

// registryVariable is the entry's own DOCKER_AUTH_CONFIG, if it has one.
func registryVariable(runner *config.Runner) string {
	value := ""
	for _, one := range runner.Environment {
		if text, ok := strings.CutPrefix(one, "DOCKER_AUTH_CONFIG="); ok {
			value = text
		}
	}
	return value
}
