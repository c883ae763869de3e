package connector

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const (
	// maxIdleLanes are kept logged in for the next request; a command uses two at a time.
	maxIdleLanes = 4
	// maxLaneIdle is below the two minutes after which Windows closes an idle connection.
	maxLaneIdle = 30 * time.Second
)

// DialWinRM checks that commands can be run on an instance by WinRM, with the user name (which may
// have the form DOMAIN\user) and the password of info. Over HTTP, messages are sealed with NTLM; over
// HTTPS, the instance's certificate is not verified, because it is self-signed, but its key is pinned
// like an SSH host key if options.KnownHosts is set. Failures are retried as with DialSSH.
func DialWinRM(ctx context.Context, info provider.ConnectInfo, opts DialOptions) (*winRMClient, error) {
	address, err := addressOf(info, opts.UseExternalAddr)
	if err != nil {
		return nil, err
	}
	if info.Password == "" {
		return nil, fmt.Errorf("instance %q: winrm needs a password (a private key cannot be used)", info.ID)
	}
	endpoint := &winrmEndpoint{
		address:  address,
		https:    info.Protocol == provider.ProtocolWinRMHttps,
		username: info.Username,
		password: info.Password,
		options:  opts,
	}
	endpoint.url = "http://" + address + "/wsman"
	if endpoint.https {
		endpoint.url = "https://" + address + "/wsman"
	}
	if domain, user, ok := strings.Cut(info.Username, `\`); ok {
		endpoint.domain, endpoint.username = domain, user
	}
	// The plugin's host keys are those of SSH.
	info.HostKeys = nil
	if endpoint.check, err = newHostCheck(info, provider.ProtocolWinRMHttps, address, opts.KnownHosts); err != nil {
		return nil, err
	}

	return retry(ctx, timeoutOf(info), func(ctx context.Context) (*winRMClient, error) {
		return connectWinRM(ctx, endpoint)
	})
}

// connectWinRM is one try. Only a shell shows that the user may run commands.
func connectWinRM(ctx context.Context, endpoint *winrmEndpoint) (*winRMClient, error) {
	client := &winRMClient{endpoint: endpoint, tasks: newTasks()}

	shell, err := client.openShell(ctx)
	if err == nil {
		_, err = client.call(ctx, closeShellRequest(shell))
	}
	if err == nil && endpoint.https {
		err = endpoint.check.trust()
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// winrmEndpoint is where and as whom to log in.
type winrmEndpoint struct {
	address, url               string
	https                      bool
	domain, username, password string
	options                    DialOptions
	check                      *hostCheck
}

func (e *winrmEndpoint) connect(ctx context.Context) (net.Conn, error) {
	conn, err := e.options.dialNetwork(ctx, e.address)
	if err != nil || !e.https {
		return conn, err
	}
	secured := tls.Client(conn, &tls.Config{
		// Instances have self-signed certificates. What protects is the pin.
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS12,
		VerifyConnection:   e.verify,
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("tls handshake with %s: %w", e.address, remoteError{err})
	}
	return secured, nil
}

func (e *winrmEndpoint) verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("the server has no certificate")
	}
	sum := sha256.Sum256(state.PeerCertificates[0].RawSubjectPublicKeyInfo)
	return e.check.verify(hostKey{
		algorithm:   "tls",
		fingerprint: "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]),
	})
}

type winRMClient struct {
	endpoint *winrmEndpoint
	tasks    *tasks

	mu     sync.Mutex
	idle   []*lane
	closed bool
}

// Dial is not possible by WinRM: the error is a *ForwardingError.
func (c *winRMClient) Dial(n string, addr string) (net.Conn, error) {
	err := &ForwardingError{Network: n, Address: addr, Certain: true, Err: errors.New("winrm does not forward connections")}
	return nil, fmt.Errorf("winrm tunnel: %w", err)
}

// Close ends all commands, which may take some seconds, and all connections.
func (c *winRMClient) Close() error {
	c.tasks.close()
	c.tasks.wait()

	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, l := range c.idle {
		l.close()
	}
	c.idle = nil
	return nil
}

// call sends a request and returns the answer.
func (c *winRMClient) call(ctx context.Context, request wsmanRequest) (wsmanBody, error) {
	l, err := c.lane(ctx)
	if err != nil {
		return wsmanBody{}, err
	}
	answer, err := l.post(ctx, []byte(request.envelope(c.endpoint.url)))
	if err != nil {
		l.close()
		return wsmanBody{}, err
	}
	c.putBack(l)
	return parseWSMan(answer)
}

// lane returns an idle or a new connection.
func (c *winRMClient) lane(ctx context.Context) (*lane, error) {
	for {
		c.mu.Lock()
		last := len(c.idle) - 1
		if c.closed || last < 0 {
			c.mu.Unlock()
			break
		}
		l := c.idle[last]
		c.idle = c.idle[:last]
		c.mu.Unlock()

		if time.Since(l.lastUse) < maxLaneIdle {
			return l, nil
		}
		l.close()
	}
	return openLane(ctx, c.endpoint)
}

func (c *winRMClient) putBack(l *lane) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxIdleLanes {
		l.close()
		return
	}
	c.idle = append(c.idle, l)
}

func (c *winRMClient) openShell(ctx context.Context) (string, error) {
	answer, err := c.call(ctx, openShellRequest())
	if err != nil {
		return "", fmt.Errorf("opening a shell: %w", err)
	}
	return answer.shell()
}

var _ Client = (*winRMClient)(nil)
