package connector

import (
	"context"
	"fmt"
	"net"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// DialOptions says how to reach an instance. The zero value is usable.
type DialOptions struct {
	// UseExternalAddr prefers the external address of the instance to the internal one.
	UseExternalAddr bool

	// DialFn makes the network connection in place of an ordinary TCP dialer, for example through
	// the Dial of another instance's client.
	DialFn func(ctx context.Context, network, addr string) (net.Conn, error)

	// KnownHosts remembers the host key of each instance from the first connection to it. Without
	// it, and without host keys given by the plugin, any host key is accepted.
	KnownHosts *KnownHosts
}

// ConnectorOptions is what Run needs.
type ConnectorOptions struct {
	RunOptions
	DialOptions
}

// DialFn is the type of Dial, for callers that put another function in its place.
type DialFn func(ctx context.Context, info provider.ConnectInfo, options DialOptions) (Client, error)

// Dial connects to an instance with its protocol. Protocols other than WinRM mean SSH; so does none,
// unless the instance's operating system is Windows. ctx covers the dialing only. A connection that
// cannot be made is tried again until info.Timeout is over (10 minutes when it is 0).
var Dial DialFn = dial

const (
	defaultTimeout = 10 * time.Minute

	// attemptTimeout bounds the first try, so that a machine which accepts connections and then stalls
	// does not use up the whole timeout. A try that it cuts short doubles it for the next, up to the time
	// that OpenSSH itself allows for a login: a machine whose logins are slow would never be reached.
	attemptTimeout    = 15 * time.Second
	maxAttemptTimeout = 2 * time.Minute

	// connectTimeout is shorter: packets to a booting machine are dropped, and the kernel's own
	// pauses between repetitions grow quickly.
	connectTimeout = 5 * time.Second
)

func dial(ctx context.Context, info provider.ConnectInfo, options DialOptions) (Client, error) {
	switch protocolOf(info) {
	case provider.ProtocolWinRM, provider.ProtocolWinRMHttps:
		client, err := DialWinRM(ctx, info, options)
		if err != nil {
			return nil, fmt.Errorf("dial winrm: %w", err)
		}
		return client, nil
	default:
		client, err := DialSSH(ctx, info, options)
		if err != nil {
			return nil, fmt.Errorf("dial ssh: %w", err)
		}
		return client, nil
	}
}

// Run connects to an instance, runs one command and closes the connection.
func Run(ctx context.Context, info provider.ConnectInfo, options ConnectorOptions) error {
	client, err := Dial(ctx, info, options.DialOptions)
	if err != nil {
		return err
	}
	defer client.Close()

	return client.Run(ctx, options.RunOptions)
}

func protocolOf(info provider.ConnectInfo) provider.Protocol {
	if info.Protocol == "" && info.OS == "windows" {
		return provider.ProtocolWinRM
	}
	return info.Protocol
}

func timeoutOf(info provider.ConnectInfo) time.Duration {
	if info.Timeout <= 0 {
		return defaultTimeout
	}
	return info.Timeout
}

func (o DialOptions) dialNetwork(ctx context.Context, addr string) (net.Conn, error) {
	if o.DialFn != nil {
		return o.DialFn(ctx, "tcp", addr)
	}
	dialer := net.Dialer{Timeout: connectTimeout}
	return dialer.DialContext(ctx, "tcp", addr)
}
