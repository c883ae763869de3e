package rig

import (
	"context"
	"net"
	"os"
)

// Registry is a real registry of images without a password, which instances reach.
type Registry struct {
	// Address is a host and a port, as instances know it.
	Address string
	process *registryProcess
}

// StartRegistry starts a registry. The rig ends it.
func (r *Rig) StartRegistry() (*Registry, error) {
	dir, err := os.MkdirTemp(r.Dir, "registry-")
	if err != nil {
		return nil, err
	}
	process, err := serveRegistry(context.Background(), dir, "0.0.0.0", "")
	if err != nil {
		return nil, err
	}
	registry := &Registry{Address: net.JoinHostPort(r.Gateway, process.port), process: process}
	r.registries = append(r.registries, registry)
	return registry, nil
}

// Push puts an image of the local engine into the registry and returns its name as instances know it.
func (r *Registry) Push(image, as string) (string, error) {
	name := r.process.local() + "/" + as
	for _, args := range [][]string{{"tag", image, name}, {"push", "--quiet", name}, {"rmi", name}} {
		if _, err := output("docker", args...); err != nil {
			return "", err
		}
	}
	return r.Address + "/" + as, nil
}
