// Package wire is the protocol between a host and a plugin: gRPC under hashicorp/go-plugin. It holds
// the generated code, the values both sides must agree on, a Client that turns a connection into a
// provider.InstanceGroup, and the server around a plugin's implementation. Errors of an
// implementation cross as text; a lost or late answer is told apart from them (ErrNoAnswer,
// context.DeadlineExceeded). Only packages fleeting, plugin and internal/pluginhost import it.
package wire

import "github.com/hashicorp/go-plugin"

//go:generate protoc --go_out=. --go_opt=paths=source_relative --go-grpc_out=. --go-grpc_opt=paths=source_relative fleeting.proto

// Everything a host and a plugin must agree on before the first call; the names of the gRPC service
// and its messages are in fleeting.proto.
const (
	protocolVersion  = 1
	magicCookieKey   = "FLEETING_PLUGIN"
	magicCookieValue = "b5a3d7f1-instance-group"

	// PluginName is the key of the instance group in go-plugin's plugin map.
	PluginName = "instancegroup"

	// LifelineEnv, set to LifelineStdin, tells a plugin that its standard input is held open by the
	// host for as long as the host lives.
	LifelineEnv = "FLEETING_PLUGIN_LIFELINE"
	// LifelineStdin is the only value of LifelineEnv so far.
	LifelineStdin = "stdin"
)

// Handshake returns the values by which host and plugin recognise each other.
func Handshake() plugin.HandshakeConfig {
	return plugin.HandshakeConfig{
		ProtocolVersion:  protocolVersion,
		MagicCookieKey:   magicCookieKey,
		MagicCookieValue: magicCookieValue,
	}
}
