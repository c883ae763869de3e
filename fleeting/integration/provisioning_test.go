package integration_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProvisioning(t *testing.T) {
	binary := integration.BuildPluginBinary(t, "./internal/fleeting-plugin-loopback", "fleeting-plugin-loopback")
	for name, size := range map[string]int{"three": 3, "one": 1, "more than is created": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			integration.TestProvisioning(t, binary, integration.Config{
				PluginConfig:    map[string]string{"username": "somebody", "password": "secret"},
				ConnectorConfig: provider.ConnectorConfig{Timeout: time.Minute},
				MaxInstances:    size,
			})
		})
	}
}
