package docker

import (
	"context"

	"github.com/docker/docker/api/types"
	"github.com/docker/docker/api/types/volume"
)

// VolumeRemove removes a volume that no container uses.
func (c *Client) VolumeRemove(ctx context.Context, name string) error {
	return c.library().VolumeRemove(ctx, name, true)
}

// VolumeList returns the volumes that have every one of the labels.
func (c *Client) VolumeList(ctx context.Context, labels ...string) ([]*volume.Volume, error) {
	answer, err := c.library().VolumeList(ctx, volume.ListOptions{Filters: labelFilter(labels)})
	return answer.Volumes, err
}

// VolumeUsage returns the volumes with the disk space each takes. It is slow on an engine with much
// data.
func (c *Client) VolumeUsage(ctx context.Context) ([]*volume.Volume, error) {
	usage, err := c.library().DiskUsage(ctx, types.DiskUsageOptions{Types: []types.DiskUsageObject{types.VolumeObject}})
	return usage.Volumes, err
}
