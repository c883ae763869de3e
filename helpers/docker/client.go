// Package docker is a client of the Docker Engine API, for a local endpoint or for one that is reached
// through a dialer. It is the only place that constructs the client library, so that the library's
// successor can take its place in one change.
//
// What it guarantees: no read from an engine is unbounded, whatever the engine sends; a call ends when
// its context ends, streams included; and plain calls share a few idle connections, so that a
// connection is only opened for a stream or for calls at the same time. The API version is negotiated
// once, by Server, and may be remembered for the next client of the same engine.
//
// Executors import it. It imports nothing of ours.
package docker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/docker/docker/api"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/sockets"
	"github.com/docker/go-connections/tlsconfig"
	"go.opentelemetry.io/otel/trace/noop"
)

// TunnelHost is the endpoint of an engine behind a tunnel. A client on one platform refuses the socket
// schemes of others, so the name is fixed; users see it in errors.
const TunnelHost = "http://internal.tunnel.invalid"

// DialFunc opens a connection to an engine. What it returns should have a CloseWrite method: without
// one, the end of a standard input cannot be told.
type DialFunc func(ctx context.Context) (net.Conn, error)

// Options say which engine a Client speaks to.
type Options struct {
	// Host is an endpoint such as unix:///var/run/docker.sock or tcp://name:2376. Empty selects the
	// environment's (DOCKER_HOST and what belongs to it), else the platform's default.
	Host string
	// CertPath is a directory with ca.pem, cert.pem and key.pem. It is used if not empty; without
	// Verify the engine's certificate is not checked.
	CertPath string
	Verify   bool

	// Dial replaces the connection to Host. It excludes TLS.
	Dial DialFunc

	// APIVersion is what Server found out earlier about the same engine. Empty leaves it to Server,
	// which then must be called first.
	APIVersion string
}

// Client speaks to one engine. It is safe for concurrent use.
type Client struct {
	host      string
	basePath  string
	transport *http.Transport
	dial      DialFunc
	conns     *connections
	// pinned is the version that DOCKER_API_VERSION asks for.
	pinned string

	mu  sync.Mutex
	api *client.Client
}

const (
	// idleConnections is how many plain calls can follow one another without a new connection.
	idleConnections = 4
	idleTimeout     = 5 * time.Minute
	dialTimeout     = time.Minute
	headerLimit     = 256 << 10
)

// New returns a client. It does not connect yet; it fails for an endpoint that cannot be understood and
// for unreadable certificates.
func New(o Options) (*Client, error) {
	pinned := ""
	if o.Host == "" && o.Dial == nil {
		o = fromEnvironment(o)
		pinned = os.Getenv(client.EnvOverrideAPIVersion)
	}
	endpoint, err := client.ParseHostURL(o.Host)
	if err != nil {
		return nil, fmt.Errorf("docker endpoint %q: %w", o.Host, err)
	}
	c := &Client{host: o.Host, basePath: endpoint.Path, conns: newConnections(), pinned: pinned}
	c.transport = &http.Transport{
		MaxIdleConns:           idleConnections,
		MaxIdleConnsPerHost:    idleConnections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: headerLimit,
		DisableCompression:     true,
	}
	dial := o.Dial
	if dial == nil {
		if dial, err = endpointDialer(c.transport, endpoint, o); err != nil {
			return nil, err
		}
	}
	c.dial = c.conns.tracked(dial)
	c.transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) }
	c.transport.Proxy = nil

	version := o.APIVersion
	if pinned != "" {
		version = pinned
	}
	if c.api, err = c.newAPI(version); err != nil {
		return nil, err
	}
	return c, nil
}

// Close ends the client with every connection it has, streams in use included. It may be called more
// than once.
func (c *Client) Close() error {
	c.conns.closeAll()
	c.transport.CloseIdleConnections()
	return nil
}

// newAPI returns a library client of one API version, the newest one it knows if the version is empty.
func (c *Client) newAPI(version string) (*client.Client, error) {
	options := []client.Opt{
		client.WithHost(c.host),
		client.WithHTTPClient(&http.Client{
			Transport:     &boundedTransport{next: c.transport},
			CheckRedirect: refuseRedirect,
		}),
		client.WithScheme("http"),
		client.WithTraceProvider(noop.NewTracerProvider()),
	}
	if version != "" {
		options = append(options, client.WithVersion(version))
	}
	library, err := client.NewClientWithOpts(options...)
	if err != nil {
		return nil, fmt.Errorf("docker endpoint %q: %w", c.host, err)
	}
	return library, nil
}

func (c *Client) library() *client.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.api
}

// agree settles on the API version to speak with an engine that speaks up to offered.
func (c *Client) agree(offered string) (string, error) {
	version := api.DefaultVersion
	switch {
	case c.pinned != "":
		version = c.pinned
	case versions.LessThan(offered, version):
		version = offered
	}
	library, err := c.newAPI(version)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.api = library
	return version, nil
}

func refuseRedirect(*http.Request, []*http.Request) error {
	return errors.New("redirects disallowed")
}

func fromEnvironment(o Options) Options {
	o.Host = os.Getenv(client.EnvOverrideHost)
	o.CertPath = os.Getenv(client.EnvOverrideCertPath)
	o.Verify = os.Getenv(client.EnvTLSVerify) != ""
	if o.Host == "" {
		o.Host = client.DefaultDockerHost
	}
	return o
}

// endpointDialer returns how to connect to an endpoint of this machine or of the network. TLS is done
// here rather than by the transport, so that streams get it too.
func endpointDialer(transport *http.Transport, endpoint *url.URL, o Options) (DialFunc, error) {
	if err := sockets.ConfigureTransport(transport, endpoint.Scheme, endpoint.Host); err != nil {
		return nil, fmt.Errorf("docker endpoint %q: %w", o.Host, err)
	}
	network, address := endpoint.Scheme, endpoint.Host
	switch network {
	case "unix", "npipe":
		dial := transport.DialContext
		return func(ctx context.Context) (net.Conn, error) { return dial(ctx, network, address) }, nil
	case "tcp", "http", "https":
	default:
		return nil, fmt.Errorf("docker endpoint %q: scheme %q is not one of unix, npipe, tcp, http, https", o.Host, network)
	}

	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	if o.CertPath == "" && network != "https" {
		return func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", address) }, nil
	}
	settings, err := tlsSettings(o)
	if err != nil {
		return nil, fmt.Errorf("docker endpoint %q: %w", o.Host, err)
	}
	secure := &tls.Dialer{NetDialer: dialer, Config: settings}
	return func(ctx context.Context) (net.Conn, error) { return secure.DialContext(ctx, "tcp", address) }, nil
}

func tlsSettings(o Options) (*tls.Config, error) {
	files := tlsconfig.Options{InsecureSkipVerify: !o.Verify, ExclusiveRootPools: true, MinVersion: tls.VersionTLS12}
	if o.CertPath != "" {
		files.CAFile = filepath.Join(o.CertPath, "ca.pem")
		files.CertFile = filepath.Join(o.CertPath, "cert.pem")
		files.KeyFile = filepath.Join(o.CertPath, "key.pem")
	}
	settings, err := tlsconfig.Client(files)
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	return settings, nil
}
