//go:build system

package googlecloud

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/integration"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/googlecloud"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

func TestThePluginProvisionsInstances(t *testing.T) {
	set, err := machines.New(t.Context(), machines.Options{Name: "google-" + strings.ToLower(rand.Text()[:6]), MaxSize: 6, Log: hclog.NewNullLogger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, set.Close(context.Background(), true)) })
	_, config := start(t, googlecloud.Options{Machines: set})
	integration.TestProvisioning(t, integration.BuildPluginBinary(t, "../cmd/fleeting-plugin-googlecloud", "fleeting-plugin-googlecloud"), integration.Config{
		PluginConfig: config,
		MaxInstances: 3,
	})
}
