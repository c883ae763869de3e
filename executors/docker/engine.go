package docker

import (
	"context"
	"io"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"

	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// engine is what the executor asks of a Docker engine; see docker.Client for what the calls do.
type engine interface {
	images.Engine
	Ping(ctx context.Context) error
	ImageLoad(ctx context.Context, archive io.Reader) (string, error)
	ImageTag(ctx context.Context, id, ref string) error

	ContainerCreate(ctx context.Context, spec docker.Container) (string, []string, error)
	ContainerAttach(ctx context.Context, id string) (*docker.Stream, error)
	ContainerStart(ctx context.Context, id string) error
	ContainerWait(ctx context.Context, id string, running bool) <-chan docker.Exit
	ContainerStop(ctx context.Context, id string, grace *int) error
	ContainerRemove(ctx context.Context, id string, volumes bool) error
	ContainerInspect(ctx context.Context, id string) (container.InspectResponse, error)
	ContainerList(ctx context.Context, labels ...string) ([]container.Summary, error)
	ContainerLogs(ctx context.Context, id string, o docker.LogOptions, stdout, stderr io.Writer) error
	Exec(ctx context.Context, containerID string, command docker.Command) (*docker.Exec, error)
	ExecInspect(ctx context.Context, execID string) (container.ExecInspect, error)

	NetworkCreate(ctx context.Context, name string, options network.CreateOptions) (string, error)
	NetworkRemove(ctx context.Context, id string) error
	NetworkInspect(ctx context.Context, id string) (network.Inspect, error)
	NetworkList(ctx context.Context, labels ...string) ([]network.Summary, error)

	VolumeRemove(ctx context.Context, name string) error
	VolumeUsage(ctx context.Context) ([]*volume.Volume, error)
	VolumeList(ctx context.Context, labels ...string) ([]*volume.Volume, error)

	Close() error
}
