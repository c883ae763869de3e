// Package machines is what the simulated clouds are made of: machines that come and go by their ids, run an
// SSH server and a Docker Engine, and let in whom they are told to. They are containers of this machine's
// Docker Engine; Memory has machines that are nothing but their names, for tests without an engine.
//
// It guarantees that nothing of it outlives Close with removeAll, and that ids are never used twice.
//
// The simulated clouds import it. No plugin does.
package machines

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/client"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/docker"
)

// State is where a machine is in its life.
type State string

// The states of a machine. One that is gone is not listed.
const (
	Creating State = "creating"
	Running  State = "running"
	Deleting State = "deleting"
)

// Machine is one machine.
type Machine struct {
	ID    string
	State State
	// Address is an IPv4 address; empty unless the machine runs.
	Address string
}

// Options say what machines are like.
type Options struct {
	// Name is in the names of the machines, and must be nobody else's.
	Name string
	// Image is that of an instance of the docker plugin; empty selects the plugin's default.
	Image string
	// Images are images of this machine's engine that every machine's engine starts with.
	Images []string
	// MaxSize is the largest number of machines.
	MaxSize int
	// BootDelay is how long a machine takes before it boots, such as "5s"; empty is no time.
	BootDelay string
	// EngineConfig is the daemon.json of the machines' engines; empty is none.
	EngineConfig json.RawMessage
	Log          hclog.Logger
}

// Set is a set of machines that are containers. It is safe for concurrent use.
type Set struct {
	group  *docker.InstanceGroup
	engine *client.Client
}

// New connects to this machine's Docker Engine and gets ready for machines.
func New(ctx context.Context, o Options) (*Set, error) {
	group := &docker.InstanceGroup{Config: docker.Config{
		Name: o.Name, Image: o.Image, Images: o.Images, MaxSize: o.MaxSize, BootDelay: o.BootDelay,
		EngineConfig: o.EngineConfig,
	}}
	settings := provider.Settings{ConnectorConfig: provider.ConnectorConfig{UseStaticCredentials: true}}
	if _, err := group.Init(ctx, o.Log, settings); err != nil {
		return nil, fmt.Errorf("preparing machines: %w", err)
	}
	engine, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reaching the docker engine: %w", err), group.Shutdown(ctx))
	}
	return &Set{group: group, engine: engine}, nil
}

// Launch makes a machine, which boots on its own, and returns its id.
func (s *Set) Launch(ctx context.Context) (string, error) { return s.group.Launch(ctx) }

// Terminate removes a machine in the background. One that is gone already is no error.
func (s *Set) Terminate(ctx context.Context, id string) error {
	_, err := s.group.Decrease(ctx, []string{id})
	return err
}

// List returns the machines in the order of their ids.
func (s *Set) List(ctx context.Context) ([]Machine, error) {
	var out []Machine
	err := s.group.Update(ctx, func(id string, state provider.State) {
		out = append(out, Machine{ID: id, State: stateOf(state)})
	})
	if err != nil {
		return nil, err
	}
	for i := range out {
		if out[i].State != Running {
			continue
		}
		info, err := s.group.ConnectInfo(ctx, out[i].ID)
		if err != nil {
			// It ended since it was listed.
			out[i].State = Deleting
			continue
		}
		out[i].Address = info.InternalAddr
	}
	slices.SortFunc(out, func(a, b Machine) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

func stateOf(state provider.State) State {
	switch state {
	case provider.StateRunning:
		return Running
	case provider.StateCreating:
		return Creating
	default:
		return Deleting
	}
}

// Authorize lets a key, a line of authorized_keys, log in on a machine as a user, who may use the machine's
// engine and is made if there is no such user.
func (s *Set) Authorize(ctx context.Context, id, user, authorizedKey string) error {
	command := []string{"/usr/local/sbin/instance", "authorize", user}
	if err := s.feed(ctx, id, command, strings.TrimSpace(authorizedKey)+"\n"); err != nil {
		return fmt.Errorf("authorizing user %q on machine %q: %w", user, id, err)
	}
	return nil
}

// feed runs a command on a machine with something on its standard input. If it fails the error has its output.
func (s *Set) feed(ctx context.Context, id string, command []string, input string) error {
	exec, err := s.engine.ContainerExecCreate(ctx, id, container.ExecOptions{
		Cmd: command, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return err
	}
	stream, err := s.engine.ContainerExecAttach(ctx, exec.ID, container.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer stream.Close()
	_, err = io.WriteString(stream.Conn, input)
	if err = errors.Join(err, stream.CloseWrite()); err != nil {
		return err
	}
	var output strings.Builder
	if _, err := stdcopy.StdCopy(&output, &output, stream.Reader); err != nil {
		return err
	}
	ended, err := s.engine.ContainerExecInspect(ctx, exec.ID)
	if err != nil {
		return err
	}
	if ended.ExitCode != 0 {
		return errors.New(strings.TrimSpace(output.String()))
	}
	return nil
}

// Close ends the set, and with removeAll the machines too.
func (s *Set) Close(ctx context.Context, removeAll bool) error {
	var errs []error
	if removeAll {
		machines, err := s.List(ctx)
		errs = append(errs, err)
		for _, one := range machines {
			errs = append(errs, s.Terminate(ctx, one.ID))
		}
	}
	// Shutdown waits for removals.
	return errors.Join(append(errs, s.group.Shutdown(ctx), s.engine.Close())...)
}
