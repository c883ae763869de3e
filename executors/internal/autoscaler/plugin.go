package autoscaler

import (
	"fmt"

	"github.com/hashicorp/go-hclog"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

// Processes is the PluginLauncher that runs plugins as processes of their own.
type Processes struct{}

// Launch implements PluginLauncher.
func (Processes) Launch(name string, config []byte, log hclog.Logger) (Plugin, error) {
	file, err := plugindir.Find(name)
	if err != nil {
		return nil, fmt.Errorf("loading fleeting plugin: %w", err)
	}
	runner, err := fleeting.RunPlugin(file, config, fleeting.WithPluginLogger(log))
	if err != nil {
		return nil, fmt.Errorf("starting fleeting plugin %s: %w", file, err)
	}
	return runner, nil
}
