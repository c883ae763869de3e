package wire

import (
	"google.golang.org/protobuf/types/known/durationpb"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func providerInfoToWire(info provider.ProviderInfo) *InitReply {
	reply := &InitReply{
		Id:        info.ID,
		MaxSize:   int64(info.MaxSize),
		Version:   info.Version,
		BuildInfo: info.BuildInfo,
	}
	for _, capability := range info.Capabilities {
		reply.Capabilities = append(reply.Capabilities, string(capability))
	}
	return reply
}

func providerInfoFromWire(reply *InitReply) provider.ProviderInfo {
	info := provider.ProviderInfo{
		ID:        reply.GetId(),
		MaxSize:   int(reply.GetMaxSize()),
		Version:   reply.GetVersion(),
		BuildInfo: reply.GetBuildInfo(),
	}
	for _, capability := range reply.GetCapabilities() {
		info.Capabilities = append(info.Capabilities, provider.Capability(capability))
	}
	return info
}

func connectorConfigToWire(config provider.ConnectorConfig) *ConnectorConfig {
	return &ConnectorConfig{
		Os:                   config.OS,
		Arch:                 config.Arch,
		Protocol:             string(config.Protocol),
		ProtocolPort:         int64(config.ProtocolPort),
		Username:             config.Username,
		Password:             []byte(config.Password),
		Key:                  config.Key,
		UseStaticCredentials: config.UseStaticCredentials,
		Keepalive:            durationpb.New(config.Keepalive),
		Timeout:              durationpb.New(config.Timeout),
	}
}

func connectorConfigFromWire(config *ConnectorConfig) provider.ConnectorConfig {
	return provider.ConnectorConfig{
		OS:                   config.GetOs(),
		Arch:                 config.GetArch(),
		Protocol:             provider.Protocol(config.GetProtocol()),
		ProtocolPort:         int(config.GetProtocolPort()),
		Username:             config.GetUsername(),
		Password:             string(config.GetPassword()),
		Key:                  config.GetKey(),
		UseStaticCredentials: config.GetUseStaticCredentials(),
		Keepalive:            config.GetKeepalive().AsDuration(),
		Timeout:              config.GetTimeout().AsDuration(),
	}
}

func connectInfoToWire(info provider.ConnectInfo) *ConnectInfoReply {
	return &ConnectInfoReply{
		ConnectorConfig: connectorConfigToWire(info.ConnectorConfig),
		Id:              info.ID,
		ExternalAddr:    info.ExternalAddr,
		InternalAddr:    info.InternalAddr,
		HostKeys:        info.HostKeys,
	}
}

func connectInfoFromWire(reply *ConnectInfoReply) provider.ConnectInfo {
	return provider.ConnectInfo{
		ConnectorConfig: connectorConfigFromWire(reply.GetConnectorConfig()),
		ID:              reply.GetId(),
		ExternalAddr:    reply.GetExternalAddr(),
		InternalAddr:    reply.GetInternalAddr(),
		HostKeys:        reply.GetHostKeys(),
	}
}
