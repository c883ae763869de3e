// Package rig sets the real thing up around a manager process: the stand-in for GitLab with its
// repository, the configuration, and the means to see from outside what is there and what is left. The
// demonstration, the whole-system tests and the benchmark share it.
//
// It speaks to the built programs and to engines, never to code of the runner.
package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/project"
	"gitlab.com/gitlab-org/gitlab-runner/tests/sample"
)

// Options say what a rig is like. The zero value of a field selects what its comment says.
type Options struct {
	// Dir is where everything of the rig is kept.
	Dir string
	// Coordinator says how the stand-in behaves; it always listens where containers reach it.
	Coordinator coordinator.Config
}

// Rig is a stand-in for GitLab with the sample's repository, and a place for one manager at a time.
type Rig struct {
	Coordinator *coordinator.Coordinator
	// Dir holds the configuration and whatever a test keeps beside it.
	Dir string
	// Head is the commit that jobs check out.
	Head string
	// Gateway is this machine's address for containers and instances.
	Gateway string
	// Extra is added to the environment of the built programs.
	Extra []string

	root string
	// mark stands in the environment of everything that the rig starts, and of what that starts.
	mark   string
	fleets []*Fleet

	registries []*Registry
}

// New starts a rig. Close it.
func New(o Options) (*Rig, error) {
	root, err := project.Root()
	if err != nil {
		return nil, err
	}
	gateway, err := bridgeAddress()
	if err != nil {
		return nil, err
	}
	place := filepath.Join(o.Dir, "repository")
	if err := os.MkdirAll(place, 0o700); err != nil {
		return nil, err
	}
	repository, head, err := sample.Create(place)
	if err != nil {
		return nil, err
	}
	o.Coordinator.Listen, o.Coordinator.AdvertiseHost = "0.0.0.0:0", gateway
	c, err := coordinator.Start(o.Coordinator)
	if err != nil {
		return nil, err
	}
	if err := c.AddRepository(sample.Project, repository); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &Rig{
		Coordinator: c, Dir: o.Dir, Head: head, Gateway: gateway,
		root: root, mark: "GITLAB_RUNNER_RIG=" + rand.Text(),
	}, nil
}

// CheckBuilt fails when the programs that a rig runs were not built.
func CheckBuilt() error {
	root, err := project.Root()
	if err != nil {
		return err
	}
	r := &Rig{root: root}
	for _, path := range []string{r.Program("gitlab-runner"), r.PluginPath()} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("looking for what has to be built: %w", err)
		}
	}
	return nil
}

// Close ends the stand-in, and what follows instances.
func (r *Rig) Close() error {
	var errs []error
	for _, fleet := range r.fleets {
		errs = append(errs, fleet.close())
	}
	for _, registry := range r.registries {
		errs = append(errs, registry.process.close())
	}
	return errors.Join(append(errs, r.Coordinator.Close())...)
}

// Root is the folder of the project.
func (r *Rig) Root() string { return r.root }

// Program is the path of one of the built programs.
func (r *Rig) Program(name string) string { return filepath.Join(r.root, "out", "binaries", name) }

// PluginPath is the plugin directory that the build fills.
func (r *Rig) PluginPath() string { return filepath.Join(r.root, "out", "plugins") }

// ConfigPath is where the manager's configuration is.
func (r *Rig) ConfigPath() string { return filepath.Join(r.Dir, "config.toml") }

// Environment is what the built programs are run with.
func (r *Rig) Environment() []string {
	return append(append(os.Environ(), r.mark, "FLEETING_PLUGIN_PATH="+r.PluginPath()), r.Extra...)
}

// Runner runs the built program to its end and returns what it printed.
func (r *Rig) Runner(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, r.Program("gitlab-runner"), args...)
	cmd.Env = r.Environment()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("gitlab-runner %s: %w", args[0], err)
	}
	return string(out), nil
}

// WriteConfig writes the manager's configuration. A manager that looks at it meanwhile sees the old one or
// the new one, never a part.
func (r *Rig) WriteConfig(text string) error {
	next := r.ConfigPath() + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(next, r.ConfigPath())
}

// bridgeAddress is this machine's address on the bridge of the local engine. The engine itself does not
// tell it before it was started a second time.
func bridgeAddress() (string, error) {
	name, err := output("docker", "network", "inspect", "bridge", "--format", `{{index .Options "com.docker.network.bridge.name"}}`)
	if err != nil {
		return "", fmt.Errorf("asking the local engine for its bridge: %w; start it with scripts/engine start", err)
	}
	bridge, err := net.InterfaceByName(name)
	if err != nil {
		return "", fmt.Errorf("looking for the bridge of the local engine: %w", err)
	}
	addresses, err := bridge.Addrs()
	if err != nil {
		return "", fmt.Errorf("looking for the addresses of %s: %w", name, err)
	}
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil {
			return network.IP.String(), nil
		}
	}
	return "", fmt.Errorf("the bridge %s of the local engine has no address of version 4", name)
}

// output runs a program and returns what it printed, trimmed.
func output(name string, args ...string) (string, error) {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
