package docker

import (
	"context"
	"net"
	"net/url"
	"os"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// tunnelKind is a way to an engine through the connection to its machine.
type tunnelKind string

const (
	// direct forwards each connection to the engine's socket: it costs nothing, but the machine must
	// allow it.
	direct tunnelKind = "direct"
	// dialStdio runs a docker command on the machine for each connection.
	dialStdio tunnelKind = "dial-stdio"
)

// defaultSocket is where an engine on a Linux machine listens.
const defaultSocket = "/var/run/docker.sock"

// endpoint is where the engine of a machine listens, as seen from that machine.
type endpoint struct {
	// host is the configured endpoint, empty for the default.
	host    string
	network string
	address string
}

func remoteEndpoint(d *config.Docker) (endpoint, error) {
	if d.TLSVerify && d.TLSCertPath != "" {
		return endpoint{}, configurationError("tls_verify cannot be used for an engine behind a tunnel: remove it from [runners.docker]")
	}
	host := d.Host
	if host == "" {
		host = os.Getenv("DOCKER_HOST")
	}
	if host == "" {
		return endpoint{network: "unix", address: defaultSocket}, nil
	}
	parsed, err := url.Parse(host)
	if err != nil || parsed.Scheme == "" {
		return endpoint{}, configurationError("docker host %q is not of the form scheme://address", host)
	}
	e := endpoint{host: d.Host, network: parsed.Scheme, address: parsed.Host}
	switch parsed.Scheme {
	case "unix":
		e.address = parsed.Path
	case "npipe":
		e.address = strings.ReplaceAll(strings.TrimPrefix(host, "npipe://"), "/", `\`)
	case "tcp", "http":
		e.network = "tcp"
	default:
		return endpoint{}, configurationError("docker host %q: scheme %q is not one of unix, npipe, tcp", host, parsed.Scheme)
	}
	return e, nil
}

// command runs on the machine and speaks to the engine on its standard streams.
func (e endpoint) command() string {
	if e.host == "" {
		return "docker system dial-stdio"
	}
	return "docker -H " + quoteArgument(e.host) + " system dial-stdio"
}

// quoteArgument quotes an operator's text for a POSIX shell; texts that need no quotes stay as they
// are, so that other shells understand them too.
func quoteArgument(text string) string {
	plain := strings.IndexFunc(text, func(r rune) bool {
		return !strings.ContainsRune("/:.-_", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
	if plain {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// dialer returns how to open connections to the engine through the machine's connection. Commands run
// for as long as life lasts.
func dialer(life context.Context, machine executors.Client, at endpoint, kind tunnelKind) docker.DialFunc {
	return func(ctx context.Context) (net.Conn, error) {
		return dialWithin(ctx, func() (net.Conn, error) {
			if kind == dialStdio {
				return machine.DialRun(life, at.command())
			}
			return machine.Dial(at.network, at.address)
		})
	}
}

// dialWithin gives up waiting when ctx ends; a connection that comes late is closed.
func dialWithin(ctx context.Context, dial func() (net.Conn, error)) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := dial()
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.conn != nil {
				_ = r.conn.Close()
			}
		}()
		return nil, context.Cause(ctx)
	}
}
