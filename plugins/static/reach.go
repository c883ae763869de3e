package static

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"

	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// reach is how the group gets to hosts.
type reach interface {
	// Probe returns nil if something answers at an address, a host:port.
	Probe(ctx context.Context, addr string) error
	// Run runs a command on a host. Its error has the end of what the command printed.
	Run(ctx context.Context, info provider.ConnectInfo, command string, external bool) error
}

// network is the reach of the plugin's own machine.
type network struct{}

func (network) Probe(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (network) Run(ctx context.Context, info provider.ConnectInfo, command string, external bool) error {
	var output tail
	err := connector.Run(ctx, info, connector.ConnectorOptions{
		DialOptions: connector.DialOptions{UseExternalAddr: external},
		RunOptions:  connector.RunOptions{Command: command, Stderr: &output},
	})
	if err == nil {
		return nil
	}
	if text := output.String(); text != "" {
		return fmt.Errorf("reset command: %w: %s", err, text)
	}
	return fmt.Errorf("reset command: %w", err)
}

// tailLimit is how much of a command's error output is kept, in bytes.
const tailLimit = 1 << 10

// tail keeps the end of what is written to it.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - tailLimit; extra > 0 {
		t.kept = bytes.Clone(t.kept[extra:])
	}
	return len(p), nil
}

func (t *tail) String() string { return strings.TrimSpace(string(t.kept)) }
