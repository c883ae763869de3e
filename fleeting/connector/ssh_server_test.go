package connector

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// scriptedServer is an SSH server in memory that does what a test tells it.
type scriptedServer struct {
	config  *ssh.ServerConfig
	hostKey ssh.Signer
	// channel answers each request for a channel; it runs in a goroutine of its own.
	channel func(ssh.NewChannel)
	// mute drops global requests, as keepalives are, instead of refusing them.
	mute bool

	mu    sync.Mutex
	conns []net.Conn
	dials int
	tasks sync.WaitGroup
}

func newScriptedServer(t *testing.T) *scriptedServer {
	s := &scriptedServer{config: &ssh.ServerConfig{}, hostKey: newSigner(t)}
	s.config.PasswordCallback = func(_ ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
		if string(password) != "secret" {
			return nil, errors.New("wrong password")
		}
		return nil, nil
	}
	s.channel = func(c ssh.NewChannel) { c.Reject(ssh.Prohibited, "not scripted") }
	t.Cleanup(s.stop)
	return s
}

// info is what a plugin would say about the server.
func (s *scriptedServer) info() provider.ConnectInfo {
	return provider.ConnectInfo{
		ID:           "i-1",
		InternalAddr: "instance",
		ConnectorConfig: provider.ConnectorConfig{
			Username: "user",
			Password: "secret",
			Timeout:  10 * time.Second,
		},
	}
}

func (s *scriptedServer) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := memoryPipe()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	s.conns = append(s.conns, server)
	config := *s.config
	config.AddHostKey(s.hostKey)
	s.tasks.Go(func() { s.serve(server, &config) })
	return client, nil
}

func (s *scriptedServer) serve(network net.Conn, config *ssh.ServerConfig) {
	defer network.Close()
	conn, channels, requests, err := ssh.NewServerConn(network, config)
	if err != nil {
		return
	}
	defer conn.Close()
	s.tasks.Go(func() {
		for request := range requests {
			if !s.mute && request.WantReply {
				request.Reply(false, nil)
			}
		}
	})
	for channel := range channels {
		s.tasks.Go(func() { s.channel(channel) })
	}
}

// cut ends all connections the way a machine does that loses its power and answers with a reset.
func (s *scriptedServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		conn.Close()
	}
}

func (s *scriptedServer) stop() {
	s.cut()
	s.tasks.Wait()
}

// connect returns a client that is closed with the test.
func (s *scriptedServer) connect(t *testing.T, info provider.ConnectInfo) *sshClient {
	client, err := DialSSH(t.Context(), info, DialOptions{DialFn: s.dial})
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// session makes the server run a function for each command.
func session(run func(channel ssh.Channel, command string)) func(ssh.NewChannel) {
	return func(request ssh.NewChannel) {
		channel, requests, err := request.Accept()
		if err != nil {
			return
		}
		for r := range requests {
			if r.Type != "exec" {
				r.Reply(false, nil)
				continue
			}
			var exec struct{ Command string }
			ssh.Unmarshal(r.Payload, &exec)
			r.Reply(true, nil)
			go ssh.DiscardRequests(requests)
			run(channel, exec.Command)
			channel.Close()
			return
		}
	}
}

func exitWith(channel ssh.Channel, status uint32) {
	channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
}

// echo copies a forwarded connection back to its client.
func echo(request ssh.NewChannel) {
	channel, requests, err := request.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	io.Copy(channel, channel)
	channel.Close()
}

func newSigner(t testing.TB) ssh.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	return signer
}

// newKey returns a private key in PEM form and its public part in authorized_keys form.
func newKey(t testing.TB) (private []byte, public string) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(key, "")
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(block), string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
}
