// Package example is a fleeting plugin for an imagined cloud, whose machines are made, listed and deleted
// over HTTP. It is the code of docs/write-a-plugin.md: take it as the beginning of a plugin of your own.
//
// Only the plugin's main program imports it.
package example

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// InstanceGroup is a group of machines in the cloud. Its exported fields are the keys of plugin_config.
type InstanceGroup struct {
	// Endpoint is the URL of the cloud.
	Endpoint string `json:"endpoint"`
	// Name is that of the group. Nobody else may use the group.
	Name string `json:"name"`
	// TokenFile is the path of a file with the token for the cloud.
	TokenFile string `json:"token_file"`
	// MaxSize is how many machines the group may have.
	MaxSize int `json:"max_size"`

	log      hclog.Logger
	settings provider.Settings
	cloud    cloud
}

var _ provider.InstanceGroup = (*InstanceGroup)(nil)

// Init checks the configuration, and whether the cloud answers. It is the place for errors that the
// operator has to do something about: each names its key.
func (g *InstanceGroup) Init(ctx context.Context, log hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	for key, value := range map[string]string{"endpoint": g.Endpoint, "name": g.Name, "token_file": g.TokenFile} {
		if value == "" {
			return provider.ProviderInfo{}, fmt.Errorf("plugin_config: the key %s is missing", key)
		}
	}
	token, err := os.ReadFile(g.TokenFile)
	if err != nil {
		return provider.ProviderInfo{}, fmt.Errorf("plugin_config: token_file: %w", err)
	}
	g.log, g.settings = log, settings
	g.cloud = cloud{endpoint: strings.TrimRight(g.Endpoint, "/"), token: strings.TrimSpace(string(token)), client: http.DefaultClient}
	if _, err := g.cloud.list(ctx, g.Name); err != nil {
		return provider.ProviderInfo{}, fmt.Errorf("looking at the group %q: %w", g.Name, err)
	}
	return provider.ProviderInfo{ID: path.Join("example", g.Name), MaxSize: g.MaxSize}, nil
}

// Update tells of all machines, with one request. A machine that is not told of is taken for gone, so that
// half a list must be an error.
func (g *InstanceGroup) Update(ctx context.Context, tell func(instance string, state provider.State)) error {
	machines, err := g.cloud.list(ctx, g.Name)
	if err != nil {
		return fmt.Errorf("listing the machines of %q: %w", g.Name, err)
	}
	for _, m := range machines {
		switch m.State {
		case "booting":
			tell(m.ID, provider.StateCreating)
		case "running":
			tell(m.ID, provider.StateRunning)
		case "stopping":
			tell(m.ID, provider.StateDeleting)
		default:
			g.log.Warn("a machine is in a state that this plugin does not know", "instance", m.ID, "state", m.State)
		}
	}
	return nil
}

// Increase asks for machines. Those that were accepted count, also if a later one fails.
func (g *InstanceGroup) Increase(ctx context.Context, n int) (int, error) {
	for accepted := range n {
		if err := g.cloud.create(ctx, g.Name); err != nil {
			return accepted, fmt.Errorf("creating a machine in %q: %w", g.Name, err)
		}
	}
	return n, nil
}

// Decrease deletes exactly these machines. One that is gone already is a success: a reply may have been
// lost, and the call is made again then.
func (g *InstanceGroup) Decrease(ctx context.Context, instances []string) ([]string, error) {
	var deleted []string
	var errs []error
	for _, id := range instances {
		if err := g.cloud.remove(ctx, id); err != nil && !errors.Is(err, errNoMachine) {
			errs = append(errs, fmt.Errorf("deleting machine %s: %w", id, err))
			continue
		}
		deleted = append(deleted, id)
	}
	return deleted, errors.Join(errs...)
}

// ConnectInfo says how to reach a machine. What the operator configured in connector_config wins.
func (g *InstanceGroup) ConnectInfo(ctx context.Context, instance string) (provider.ConnectInfo, error) {
	m, err := g.cloud.get(ctx, instance)
	if err != nil {
		return provider.ConnectInfo{}, fmt.Errorf("asking for machine %s: %w", instance, err)
	}
	info := provider.ConnectInfo{ConnectorConfig: g.settings.ConnectorConfig, ID: instance, InternalAddr: m.Address, ExternalAddr: m.Address}
	if info.OS == "" {
		info.OS = "linux"
	}
	if info.Arch == "" {
		info.Arch = "amd64"
	}
	if info.Protocol == "" {
		info.Protocol = provider.ProtocolSSH
	}
	if info.Username == "" {
		info.Username = m.Username
	}
	if !info.UseStaticCredentials && info.Password == "" && len(info.Key) == 0 {
		info.Password = m.Password
	}
	if m.HostKey != "" {
		info.HostKeys = []string{m.HostKey}
	}
	return info, nil
}

// Heartbeat asks the cloud about one machine. It does not connect to it.
func (g *InstanceGroup) Heartbeat(ctx context.Context, instance string) error {
	asking, stop := context.WithTimeout(ctx, heartbeatLimit)
	defer stop()
	m, err := g.cloud.get(asking, instance)
	switch {
	case errors.Is(err, errNoMachine):
		return fmt.Errorf("%w: machine %s is gone", provider.ErrInstanceUnhealthy, instance)
	case err != nil && ctx.Err() == nil:
		// What the cloud does not say is held against no machine.
		g.log.Warn("the health of a machine is not known: it is taken for healthy", "instance", instance, "err", err)
		return nil
	case err != nil:
		return fmt.Errorf("asking for machine %s: %w", instance, err)
	case m.State != "running":
		return fmt.Errorf("%w: machine %s is %s", provider.ErrInstanceUnhealthy, instance, m.State)
	}
	return nil
}

// heartbeatLimit is how long the cloud is asked for: a job waits meanwhile.
const heartbeatLimit = 5 * time.Second

// Suspend is not possible in this cloud.
func (g *InstanceGroup) Suspend(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Resume is not possible in this cloud.
func (g *InstanceGroup) Resume(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Shutdown undoes what Init made, which is nothing. Machines stay: whether they go is the runner's
// decision.
func (g *InstanceGroup) Shutdown(context.Context) error { return nil }
