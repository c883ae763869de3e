package config

import (
	"fmt"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

// placeKeys of a plugin's configuration say where a group of instances is; name says which it is.
var placeKeys = []string{"project", "zone", "region", "profile", "subscription_id", "resource_group_name", "name"}

// Group tells groups of instances apart, as far as the plugin and its configuration show: entries with
// the same value use the same group. Plugins that give groups no name are told apart by all their keys.
func (a *Autoscaler) Group() string {
	plugin := plugindir.Bare(a.Plugin)
	if name, named := a.PluginConfig["name"]; !named || name == "" {
		return fmt.Sprintf("%s %v", plugin, a.PluginConfig)
	}
	parts := []string{plugin}
	for _, key := range placeKeys {
		parts = append(parts, fmt.Sprintf("%s=%q", key, fmt.Sprint(a.PluginConfig[key])))
	}
	return strings.Join(parts, " ")
}
