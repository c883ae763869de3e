//go:build system

package docker

import (
	"testing"

	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestSystemProvisioning(t *testing.T) {
	binary := integration.BuildPluginBinary(t, "../cmd/fleeting-plugin-docker", "fleeting-plugin-docker")
	tests := map[string]struct {
		config    Config
		connector provider.ConnectorConfig
		external  bool
	}{
		"defaults": {},
		"as root":  {connector: provider.ConnectorConfig{Username: "root"}, external: true},
		"with images": {
			config: Config{Images: []string{"busybox:latest"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			tt.config.Name = groupName(t)
			sweep(t, tt.config.Name)
			tt.connector.Timeout = patience
			integration.TestProvisioning(t, binary, integration.Config{
				PluginConfig:    InstanceGroup{Config: tt.config},
				ConnectorConfig: tt.connector,
				MaxInstances:    3,
				UseExternalAddr: tt.external,
			})
		})
	}
}
