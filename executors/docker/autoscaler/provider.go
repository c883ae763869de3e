// Package autoscaler is the docker-autoscaler executor: the docker executor, each of whose jobs gets a
// slot on an autoscaled instance. Commands make a provider of it; it adds nothing to the two that it
// joins.
package autoscaler

import (
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker"
	"gitlab.com/gitlab-org/gitlab-runner/executors/internal/autoscaler"
)

// Name is the value of the executor key in config.toml.
const Name = "docker-autoscaler"

// Provider is the docker-autoscaler executor's provider.
type Provider = autoscaler.Provider

// Options say what a Provider needs. Its name and its wrapped executor are set by NewProvider.
type Options = autoscaler.Options

// FleetStatus is what the fleet of one runner entry is at.
type FleetStatus = autoscaler.FleetStatus

// PluginProcesses runs fleeting plugins as processes of their own.
type PluginProcesses = autoscaler.Processes

// ErrUnknownInstance is wrapped by the error of Drain for an instance that no fleet has.
var ErrUnknownInstance = autoscaler.ErrUnknownInstance

// NewProvider wraps the docker executor.
func NewProvider(inner *docker.Provider, o Options) *Provider {
	o.Name = Name
	o.Inner = inner
	return autoscaler.NewProvider(o)
}
