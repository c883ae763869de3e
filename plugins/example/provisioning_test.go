package example_test

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// TestProvisioning builds the plugin and has it create machines, runs a command on one of them, and has
// them deleted again.
func TestProvisioning(t *testing.T) {
	cloud := newCloud(t)
	server := httptest.NewServer(cloud)
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(cloudToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	binary := integration.BuildPluginBinary(t, "fleeting-plugin-example", "fleeting-plugin-example")
	integration.TestProvisioning(t, binary, integration.Config{
		PluginConfig:    map[string]any{"endpoint": server.URL, "name": "builders", "token_file": token, "max_size": 5},
		ConnectorConfig: provider.ConnectorConfig{ProtocolPort: cloud.port(), Timeout: time.Minute},
		MaxInstances:    3,
	})
}
