package docker

import (
	"context"

	"github.com/docker/docker/api/types/network"
)

// NetworkCreate creates a network and returns its ID.
func (c *Client) NetworkCreate(ctx context.Context, name string, options network.CreateOptions) (string, error) {
	answer, err := c.library().NetworkCreate(ctx, name, options)
	return answer.ID, err
}

// NetworkRemove removes a network that nothing is attached to.
func (c *Client) NetworkRemove(ctx context.Context, id string) error {
	return c.library().NetworkRemove(ctx, id)
}

// NetworkInspect returns what the engine knows of a network.
func (c *Client) NetworkInspect(ctx context.Context, id string) (network.Inspect, error) {
	return c.library().NetworkInspect(ctx, id, network.InspectOptions{})
}

// NetworkList returns the networks that have every one of the labels.
func (c *Client) NetworkList(ctx context.Context, labels ...string) ([]network.Summary, error) {
	return c.library().NetworkList(ctx, network.ListOptions{Filters: labelFilter(labels)})
}
