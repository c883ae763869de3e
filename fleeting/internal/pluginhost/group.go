package pluginhost

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/wire"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// group is the host's plugin as an instance group.
type group struct{ host *Host }

var _ provider.InstanceGroup = group{}

// call runs one call on the current session under the call's limit.
func (g group) call(ctx context.Context, method string, limit time.Duration, fn func(context.Context, *wire.Client) error) error {
	s, err := g.host.current()
	if err != nil {
		return err
	}
	return g.callOn(ctx, s, method, limit, fn)
}

// callOn runs one call on a session under the call's limit.
func (g group) callOn(ctx context.Context, s *session, method string, limit time.Duration, fn func(context.Context, *wire.Client) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := fn(limited, s.client)
	if err != nil && ctx.Err() == nil && ambiguous(err) && errors.Is(limited.Err(), context.DeadlineExceeded) {
		g.host.suspect(s, method)
	}
	return err
}

// Init sends the configuration and the settings. The plugin logs through the host's logger, not
// through the given one.
func (g group) Init(ctx context.Context, _ hclog.Logger, settings provider.Settings) (info provider.ProviderInfo, err error) {
	s, err := g.host.current()
	if err != nil {
		return info, err
	}
	err = g.callOn(ctx, s, "Init", g.host.cfg.Limits.Calls.Init, func(ctx context.Context, c *wire.Client) error {
		info, err = c.Init(ctx, g.host.cfg.PluginConfig, settings)
		return err
	})
	if err == nil {
		g.host.initialised(s, settings)
	}
	return info, err
}

// Update reports the group's content.
func (g group) Update(ctx context.Context, fn func(instance string, state provider.State)) error {
	return g.call(ctx, "Update", g.host.cfg.Limits.Calls.Update, func(ctx context.Context, c *wire.Client) error {
		return c.Update(ctx, fn)
	})
}

// Increase asks for n more instances.
func (g group) Increase(ctx context.Context, n int) (succeeded int, err error) {
	err = g.call(ctx, "Increase", g.host.cfg.Limits.Calls.Increase, func(ctx context.Context, c *wire.Client) error {
		succeeded, err = c.Increase(ctx, n)
		return err
	})
	return succeeded, err
}

// Decrease asks for the deletion of instances.
func (g group) Decrease(ctx context.Context, instances []string) (succeeded []string, err error) {
	err = g.call(ctx, "Decrease", g.host.cfg.Limits.Calls.Decrease, func(ctx context.Context, c *wire.Client) error {
		succeeded, err = c.Decrease(ctx, instances)
		return err
	})
	return succeeded, err
}

// ConnectInfo returns the connection data of an instance.
func (g group) ConnectInfo(ctx context.Context, instance string) (info provider.ConnectInfo, err error) {
	err = g.call(ctx, "ConnectInfo", g.host.cfg.Limits.Calls.ConnectInfo, func(ctx context.Context, c *wire.Client) error {
		info, err = c.ConnectInfo(ctx, instance)
		return err
	})
	return info, err
}

// Heartbeat returns nil for a healthy instance.
func (g group) Heartbeat(ctx context.Context, instance string) error {
	return g.call(ctx, "Heartbeat", g.host.cfg.Limits.Calls.Heartbeat, func(ctx context.Context, c *wire.Client) error {
		return c.Heartbeat(ctx, instance)
	})
}

// Suspend asks for the suspension of instances.
func (g group) Suspend(ctx context.Context, instances []string) (succeeded []string, err error) {
	err = g.call(ctx, "Suspend", g.host.cfg.Limits.Calls.Suspend, func(ctx context.Context, c *wire.Client) error {
		succeeded, err = c.Suspend(ctx, instances)
		return err
	})
	return succeeded, err
}

// Resume asks for suspended instances to be started.
func (g group) Resume(ctx context.Context, instances []string) (succeeded []string, err error) {
	err = g.call(ctx, "Resume", g.host.cfg.Limits.Calls.Resume, func(ctx context.Context, c *wire.Client) error {
		succeeded, err = c.Resume(ctx, instances)
		return err
	})
	return succeeded, err
}

// Shutdown ends the group's work; the plugin is not restarted after it.
func (g group) Shutdown(ctx context.Context) error {
	err := g.call(ctx, "Shutdown", g.host.cfg.Limits.Calls.Shutdown, func(ctx context.Context, c *wire.Client) error {
		return c.Shutdown(ctx)
	})
	g.host.finished()
	return err
}
