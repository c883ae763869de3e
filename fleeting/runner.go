package fleeting

import (
	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/pluginhost"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// PluginOption changes a setting of RunPlugin.
type PluginOption func(*pluginOptions)

type pluginOptions struct {
	logger hclog.Logger
}

// WithPluginLogger sets where the plugin's log lines, and those about its process, go to. The default
// is hclog's own.
func WithPluginLogger(logger hclog.Logger) PluginOption {
	return func(o *pluginOptions) { o.logger = logger }
}

// ErrPluginNotRunning is wrapped by the errors of a group's methods while its plugin is down and about to
// be started again. They say nothing about the instances.
var ErrPluginNotRunning = pluginhost.ErrNotRunning

// Runner is a plugin that runs as a process of its own. The process ends at the latest with this one,
// even if this one is killed, and is started again when it crashes.
type Runner struct {
	host *pluginhost.Host
}

// RunPlugin starts a plugin. The name is the path of its executable; a bare name is looked up in
// $PATH. The config is the plugin's configuration as JSON, sent with every Init; it may be nil. Kill
// must be called in the end.
func RunPlugin(name string, config []byte, opts ...PluginOption) (*Runner, error) {
	var o pluginOptions
	for _, opt := range opts {
		opt(&o)
	}
	if o.logger == nil {
		o.logger = hclog.Default()
	}
	host, err := pluginhost.Start(pluginhost.Config{
		Path:         name,
		PluginConfig: config,
		Logger:       o.logger,
		Limits:       pluginhost.DefaultLimits(),
	})
	if err != nil {
		return nil, err
	}
	return &Runner{host: host}, nil
}

// InstanceGroup returns the plugin's group. All its methods may be called at any time. They are bounded
// by generous limits beside their contexts. While the plugin is down they fail at once; after a crash
// the group is initialised again as it was before, and goes on working.
func (r *Runner) InstanceGroup() provider.InstanceGroup { return r.host.Group() }

// Kill ends the plugin: gracefully if it answers, by force otherwise. The group's Shutdown is not
// called. Kill may be called several times.
func (r *Runner) Kill() { r.host.Stop() }
