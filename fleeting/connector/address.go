package connector

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const maxAddressLength = 512

// addressOf returns the host:port to connect to. The external address is taken when it is preferred
// or the only one. A port which is part of the address wins over info.ProtocolPort, and that over the
// protocol's default.
func addressOf(info provider.ConnectInfo, preferExternal bool) (string, error) {
	addr := info.InternalAddr
	if info.ExternalAddr != "" && (preferExternal || addr == "") {
		addr = info.ExternalAddr
	}
	if addr == "" {
		return "", fmt.Errorf("instance %q has no address: the plugin reported neither an internal nor an external one", info.ID)
	}
	host, port := splitAddress(addr)
	if len(addr) > maxAddressLength || !isHost(host) {
		return "", fmt.Errorf("instance %q has the invalid address %.64q: the plugin must report a host name, an IP address or host:port", info.ID, addr)
	}
	if port == "" {
		port = strconv.Itoa(portOf(info))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("instance %q has the invalid port %.32q (1 to 65535 are valid): check protocol_port and the address %.64q", info.ID, port, addr)
	}
	return net.JoinHostPort(host, port), nil
}

// splitAddress separates a port from an address that may be a bare IPv6 literal.
func splitAddress(addr string) (host, port string) {
	if host, port, err := net.SplitHostPort(addr); err == nil && port != "" {
		return host, port
	}
	addr = strings.TrimSuffix(addr, ":")
	if strings.HasPrefix(addr, "[") && strings.HasSuffix(addr, "]") {
		addr = addr[1 : len(addr)-1]
	}
	return addr, ""
}

func portOf(info provider.ConnectInfo) int {
	if info.ProtocolPort != 0 {
		return info.ProtocolPort
	}
	if port, ok := provider.DefaultProtocolPorts[protocolOf(info)]; ok {
		return port
	}
	return provider.DefaultProtocolPorts[provider.ProtocolSSH]
}

func isHost(host string) bool {
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	return host != "" && !strings.ContainsFunc(host, func(r rune) bool {
		return !unicode.IsGraphic(r) || unicode.IsSpace(r) || strings.ContainsRune(`/@"\<>[]%`, r)
	})
}
