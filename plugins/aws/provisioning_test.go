//go:build system

package aws

import (
	"context"
	"crypto/rand"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/aws"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

func TestThePluginProvisionsInstances(t *testing.T) {
	set, err := machines.New(t.Context(), machines.Options{Name: "aws-" + strings.ToLower(rand.Text()[:6]), MaxSize: 6, Log: hclog.NewNullLogger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, set.Close(context.Background(), true)) })
	server := httptest.NewServer(aws.New(aws.Options{
		Machines: set, Group: groupName, MaxSize: 3, Region: "eu-west-1", AccessKey: "AKIDEXAMPLE", SecretKey: secret,
	}))
	t.Cleanup(server.Close)
	integration.TestProvisioning(t, integration.BuildPluginBinary(t, "../cmd/fleeting-plugin-aws", "fleeting-plugin-aws"), integration.Config{
		PluginConfig:    files(t, server.URL, "AKIDEXAMPLE", secret),
		ConnectorConfig: provider.ConnectorConfig{Username: "ec2-user"},
		MaxInstances:    3,
		UseExternalAddr: true,
	})
}
