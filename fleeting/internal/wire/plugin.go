package wire

import (
	"context"
	"errors"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Plugins returns go-plugin's plugin map. A plugin gives its implementation and the logger that the
// implementation's Init is called with; a host gives neither.
func Plugins(impl provider.InstanceGroup, logger hclog.Logger) plugin.PluginSet {
	return plugin.PluginSet{PluginName: &grpcPlugin{impl: impl, logger: logger}}
}

// grpcPlugin joins the generated code to go-plugin.
type grpcPlugin struct {
	plugin.NetRPCUnsupportedPlugin

	impl   provider.InstanceGroup
	logger hclog.Logger
}

var _ plugin.GRPCPlugin = (*grpcPlugin)(nil)

// GRPCServer registers the implementation; go-plugin calls it in the plugin.
func (p *grpcPlugin) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	if p.impl == nil {
		return errors.New("no instance group to serve")
	}
	RegisterInstanceGroupServer(s, &server{impl: p.impl, logger: p.logger})
	return nil
}

// GRPCClient returns a *Client; go-plugin calls it in the host.
func (p *grpcPlugin) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}
