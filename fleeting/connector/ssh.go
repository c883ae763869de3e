package connector

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// DialSSH connects to an instance by SSH, with the key and the password of info, as far as they are
// set, in that order; the password also answers keyboard-interactive questions. Failures are retried
// until info.Timeout is over, those of the login too, since accounts appear while an instance boots;
// a host key that changed is not.
func DialSSH(ctx context.Context, info provider.ConnectInfo, options DialOptions) (*sshClient, error) {
	address, err := addressOf(info, options.UseExternalAddr)
	if err != nil {
		return nil, err
	}
	auth, err := sshAuth(info)
	if err != nil {
		return nil, err
	}
	check, err := newHostCheck(info, provider.ProtocolSSH, address, options.KnownHosts)
	if err != nil {
		return nil, err
	}

	dialer := sshDialer{info: info, options: options, address: address, auth: auth, check: check}
	return retry(ctx, timeoutOf(info), dialer.connect)
}

type sshDialer struct {
	info    provider.ConnectInfo
	options DialOptions
	address string
	auth    []ssh.AuthMethod
	check   *hostCheck
}

// connect is one try.
func (d *sshDialer) connect(ctx context.Context) (*sshClient, error) {
	network, err := d.options.dialNetwork(ctx, d.address)
	if err != nil {
		return nil, err
	}
	conn := watch(network)
	release := context.AfterFunc(ctx, func() { conn.Close() })

	config := &ssh.ClientConfig{
		User:              d.info.Username,
		Auth:              d.auth,
		HostKeyCallback:   d.check.callback,
		HostKeyAlgorithms: d.check.algorithms(),
	}
	transport, channels, requests, err := ssh.NewClientConn(conn, d.address, config)
	if !release() {
		if err == nil {
			transport.Close()
		}
		return nil, fmt.Errorf("ssh: handshake failed: no answer from %s: %w", d.address, contextError(ctx))
	}
	if err != nil {
		conn.Close()
		return nil, remoteError{err}
	}
	if err := d.check.trust(); err != nil {
		transport.Close()
		return nil, err
	}

	client := &sshClient{
		conn:    ssh.NewClient(transport, channels, requests),
		monitor: newMonitor(d.info.ID, d.address, conn),
	}
	client.monitor.start(client.conn, d.info.Keepalive)
	return client, nil
}

// sshAuth is the list of ways to log in. The server learns of each only what the way itself shows.
func sshAuth(info provider.ConnectInfo) ([]ssh.AuthMethod, error) {
	var methods []ssh.AuthMethod

	if len(info.Key) > 0 {
		signer, err := ssh.ParsePrivateKey(info.Key)
		if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
			return nil, fmt.Errorf("the private key for instance %q is encrypted: give one without passphrase", info.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the private key for instance %q (it must be in PEM form): %w", info.ID, err)
		}
		methods = append(methods, ssh.PublicKeys(signer))
	}

	if password := info.Password; password != "" {
		answer := func(_, _ string, questions []string, echos []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for i := range questions {
				// A question whose answer is shown on the screen is not for a password.
				if !echos[i] {
					answers[i] = password
				}
			}
			return answers, nil
		}
		methods = append(methods, ssh.Password(password), ssh.KeyboardInteractive(answer))
	}
	return methods, nil
}

var (
	_ Client        = (*sshClient)(nil)
	_ Monitored     = (*sshClient)(nil)
	_ ContextDialer = (*sshClient)(nil)
	_ net.Conn      = (*tunnel)(nil)
)
