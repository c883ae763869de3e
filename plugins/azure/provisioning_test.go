//go:build system

package azure

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/azure"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

// patience bounds what is waited for. It is no expectation.
const patience = 2 * time.Minute

func TestSystemProvisioning(t *testing.T) {
	binary := integration.BuildPluginBinary(t, "../cmd/fleeting-plugin-azure", "fleeting-plugin-azure")
	pair := newPair(t)
	tests := map[string]struct {
		options   azure.Options
		connector provider.ConnectorConfig
		external  bool
	}{
		"uniform, by password": {
			options:   azure.Options{User: "azureuser", Password: "word"},
			connector: provider.ConnectorConfig{Username: "azureuser", Password: "word"},
			external:  true,
		},
		"flexible, by key": {
			options:   azure.Options{User: "boss", AuthorizedKey: pair.Public, Flexible: true, Private: true},
			connector: provider.ConnectorConfig{Key: pair.Private},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set, err := machines.New(t.Context(), machines.Options{
				Name: "azure-" + strings.ToLower(rand.Text()[:8]), MaxSize: 6, Log: hclog.Default(),
			})
			require.NoError(t, err)
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				require.NoError(t, set.Close(ctx, true))
			})
			tt.options.Machines = set
			_, config := simulate(t, tt.options)
			tt.connector.UseStaticCredentials, tt.connector.Timeout = true, patience
			integration.TestProvisioning(t, binary, integration.Config{
				PluginConfig:    InstanceGroup{Config: config},
				ConnectorConfig: tt.connector,
				MaxInstances:    3,
				UseExternalAddr: tt.external,
			})
		})
	}
}
