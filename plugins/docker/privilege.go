package docker

import (
	"context"
	"errors"
	"fmt"
)

// choosePrivilege finds out whether instances can be privileged containers. An engine that itself
// lacks CAP_SYS_RESOURCE, as in many CI containers and small VMs, cannot start one, and can start one
// with all other capabilities.
func choosePrivilege(ctx context.Context, e engine, s shape) (privileged bool, err error) {
	if s.privileged != nil {
		return *s.privileged, nil
	}
	withAll := probe(ctx, e, s, true)
	if withAll == nil {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, fmt.Errorf("trying a privileged container: %w", context.Cause(ctx))
	}
	withMost := probe(ctx, e, s, false)
	if withMost == nil {
		return false, nil
	}
	return false, fmt.Errorf("the docker engine cannot run instances: privileged: %w; with most capabilities: %w", withAll, withMost)
}

// probe starts a container that ends at once.
func probe(ctx context.Context, e engine, s shape, privileged bool) error {
	id, err := e.Create(ctx, spec{
		name:       newInstanceID(s.name + "-probe"),
		image:      s.image,
		entrypoint: []string{"/bin/true"},
		labels:     map[string]string{labelGroup: s.name, labelRole: roleProbe},
		network:    "none",
		privileged: privileged,
	})
	if err != nil {
		return err
	}
	err = e.Start(ctx, id)
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return errors.Join(err, e.Remove(cleanup, id))
}

// removeProbes removes what a process that died left.
func removeProbes(ctx context.Context, e engine, group string) error {
	left, err := e.Containers(ctx, group, roleProbe)
	if err != nil {
		return fmt.Errorf("listing the containers of group %q: %w", group, err)
	}
	for _, c := range left {
		if err := e.Remove(ctx, c.name); err != nil {
			return fmt.Errorf("removing container %q that a former process left: %w", c.name, err)
		}
	}
	return nil
}
