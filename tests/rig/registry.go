package rig

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Registry is a real registry of images without a password, which instances reach.
type Registry struct {
	// Address is a host and a port, as instances know it.
	Address string
	local   string
	process *exec.Cmd
}

// registryPatience is how long a registry may take to listen.
const registryPatience = 20 * time.Second

// StartRegistry starts a registry. The rig ends it.
func (r *Rig) StartRegistry() (*Registry, error) {
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err = errors.Join(err, listener.Close()); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(r.Dir, "registry-")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.yml")
	text := fmt.Appendf(nil, "version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: \"0.0.0.0:%s\"}\nlog: {level: error}\n", dir, port)
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return nil, err
	}
	registry := &Registry{
		// This machine's own engine asks no TLS of a registry on its loopback address.
		Address: net.JoinHostPort(r.Gateway, port), local: net.JoinHostPort("127.0.0.1", port),
		process: exec.Command("docker-registry", "serve", config),
	}
	if err := registry.process.Start(); err != nil {
		return nil, fmt.Errorf("starting a registry: %w; run scripts/setup", err)
	}
	r.registries = append(r.registries, registry)
	for deadline := time.Now().Add(registryPatience); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", registry.local)
		if err == nil {
			return registry, conn.Close()
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the registry does not listen: %w", err)
		}
	}
}

// Push puts an image of the local engine into the registry and returns its name as instances know it.
func (r *Registry) Push(image, as string) (string, error) {
	name := r.local + "/" + as
	for _, args := range [][]string{{"tag", image, name}, {"push", "--quiet", name}, {"rmi", name}} {
		if _, err := output("docker", args...); err != nil {
			return "", err
		}
	}
	return r.Address + "/" + as, nil
}

func (r *Registry) close() error {
	err := r.process.Process.Kill()
	// Its status is that of a killed process.
	_ = r.process.Wait()
	return err
}
