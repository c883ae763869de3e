package docker

import (
	"context"
	"fmt"
	"io"
	"net/url"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Container is what a container is created from.
type Container struct {
	Name     string
	Config   *container.Config
	Host     *container.HostConfig
	Network  *network.NetworkingConfig
	Platform *ocispec.Platform
}

// ContainerCreate creates a container and returns its ID and what the engine warns of.
func (c *Client) ContainerCreate(ctx context.Context, spec Container) (string, []string, error) {
	answer, err := c.library().ContainerCreate(ctx, spec.Config, spec.Host, spec.Network, spec.Platform, spec.Name)
	if err != nil {
		return "", nil, err
	}
	return answer.ID, answer.Warnings, nil
}

// ContainerAttach opens the standard streams of a container. It is called before each start.
func (c *Client) ContainerAttach(ctx context.Context, id string) (*Stream, error) {
	query := url.Values{"stream": {"1"}, "stdin": {"1"}, "stdout": {"1"}, "stderr": {"1"}}
	return c.hijack(ctx, "/containers/"+id+"/attach", query, nil)
}

// ContainerStart starts a container.
func (c *Client) ContainerStart(ctx context.Context, id string) error {
	return c.library().ContainerStart(ctx, id, container.StartOptions{})
}

// Exit is how a container ended.
type Exit struct {
	Code int
	Err  error
}

// ContainerWait asks to be told of the end of a container and returns at once: what is started after
// that is not missed. With running set, a container that does not run counts as ended; otherwise its
// next end is waited for. The channel gets one value; when ctx ends, an Exit with an error.
func (c *Client) ContainerWait(ctx context.Context, id string, running bool) <-chan Exit {
	condition := container.WaitConditionNextExit
	if running {
		condition = container.WaitConditionNotRunning
	}
	exit := make(chan Exit, 1)
	answers, failures := c.library().ContainerWait(ctx, id, condition)
	go func() {
		select {
		case answer := <-answers:
			if answer.Error != nil {
				exit <- Exit{Err: fmt.Errorf("waiting for container %s: %s", id, answer.Error.Message)}
				return
			}
			exit <- Exit{Code: int(int32(answer.StatusCode))}
		case err := <-failures:
			exit <- Exit{Err: err}
		}
	}()
	return exit
}

// ContainerStop asks a container to end, and kills it after its grace. A nil grace, in seconds, selects
// the container's own.
func (c *Client) ContainerStop(ctx context.Context, id string, grace *int) error {
	return c.library().ContainerStop(ctx, id, container.StopOptions{Timeout: grace})
}

// ContainerRemove kills and removes a container; volumes says whether its anonymous volumes go too.
func (c *Client) ContainerRemove(ctx context.Context, id string, volumes bool) error {
	return c.library().ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: volumes})
}

// ContainerInspect returns what the engine knows of a container.
func (c *Client) ContainerInspect(ctx context.Context, id string) (container.InspectResponse, error) {
	return c.library().ContainerInspect(ctx, id)
}

// ContainerList returns the containers, ended ones included, that have every one of the labels. A label
// is a key, or a key and a value joined by "=".
func (c *Client) ContainerList(ctx context.Context, labels ...string) ([]container.Summary, error) {
	return c.library().ContainerList(ctx, container.ListOptions{All: true, Filters: labelFilter(labels)})
}

// LogOptions say what part of a container's log is wanted.
type LogOptions struct {
	Follow     bool
	Timestamps bool
}

// ContainerLogs writes the log of a container to out until it ends, or for as long as the container
// lives if Follow is set.
func (c *Client) ContainerLogs(ctx context.Context, id string, o LogOptions, stdout, stderr io.Writer) error {
	body, err := c.library().ContainerLogs(ctx, id, container.LogsOptions{
		ShowStdout: true, ShowStderr: true, Follow: o.Follow, Timestamps: o.Timestamps,
	})
	if err != nil {
		return err
	}
	defer body.Close()
	return Demultiplex(body, stdout, stderr)
}

// Command is what is run in a container that runs already.
type Command struct {
	Args []string
	// User is empty for the container's own.
	User string
	Env  []string
	// Stdin says whether the command gets a standard input; it is the Stream's.
	Stdin bool
	// Terminal gives the command a terminal. Its output is then read as it is, by Read, and not by Copy.
	Terminal bool
}

// Exec is a command under way in a container.
type Exec struct {
	ID string
	*Stream
}

// Exec starts a command in a container.
func (c *Client) Exec(ctx context.Context, containerID string, command Command) (*Exec, error) {
	created, err := c.library().ContainerExecCreate(ctx, containerID, container.ExecOptions{
		Cmd: command.Args, User: command.User, Env: command.Env, Tty: command.Terminal,
		AttachStdin: command.Stdin, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, err
	}
	stream, err := c.hijack(ctx, "/exec/"+created.ID+"/start", nil, container.ExecStartOptions{Tty: command.Terminal})
	if err != nil {
		return nil, err
	}
	return &Exec{ID: created.ID, Stream: stream}, nil
}

// ExecInspect tells whether a command still runs, and its exit code if it does not.
func (c *Client) ExecInspect(ctx context.Context, execID string) (container.ExecInspect, error) {
	return c.library().ContainerExecInspect(ctx, execID)
}

func labelFilter(labels []string) filters.Args {
	args := filters.NewArgs()
	for _, label := range labels {
		args.Add("label", label)
	}
	return args
}
