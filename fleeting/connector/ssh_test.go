package connector

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestSSHLogsInWithWhatIsGiven(t *testing.T) {
	key, _ := newKey(t)
	accept := func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil }

	tests := map[string]struct {
		server  func(*ssh.ServerConfig)
		info    func(*provider.ConnectInfo)
		want    []string
		wantErr string
	}{
		"password": {want: []string{"none", "password"}},
		"key before password": {
			server: func(c *ssh.ServerConfig) {
				c.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }
			},
			info: func(i *provider.ConnectInfo) { i.Key = key },
			want: []string{"none", "publickey"},
		},
		"password after the key was refused": {
			server: func(c *ssh.ServerConfig) {
				c.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
					return nil, errors.New("unknown key")
				}
			},
			info: func(i *provider.ConnectInfo) { i.Key = key },
			want: []string{"none", "publickey", "password"},
		},
		"keyboard-interactive with the password": {
			server: func(c *ssh.ServerConfig) {
				c.PasswordCallback = nil
				c.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
					answers, err := ask("", "", []string{"Your name: ", "Password: "}, []bool{true, false})
					if err != nil || answers[0] != "" || answers[1] != "secret" {
						return nil, errors.New("wrong answers")
					}
					return nil, nil
				}
			},
			want: []string{"none", "keyboard-interactive"},
		},
		"wrong password": {
			info:    func(i *provider.ConnectInfo) { i.Password = "guess" },
			wantErr: "ssh: handshake failed: ssh: unable to authenticate, attempted methods [none password], no supported methods remain",
		},
		"no credentials": {
			info:    func(i *provider.ConnectInfo) { i.Password = "" },
			wantErr: "ssh: handshake failed: ssh: unable to authenticate, attempted methods [none], no supported methods remain",
		},
		"no credentials needed": {
			server: func(c *ssh.ServerConfig) { c.NoClientAuth, c.PasswordCallback = true, accept },
			info:   func(i *provider.ConnectInfo) { i.Password = "" },
			want:   []string{"none"},
		},
	}
	for name, tt := range tests {
		t.Run(name, inBubble(func(t *testing.T) {
			server := newScriptedServer(t)
			var attempted []string
			server.config.AuthLogCallback = func(_ ssh.ConnMetadata, method string, _ error) {
				attempted = append(attempted, method)
			}
			if tt.server != nil {
				tt.server(server.config)
			}
			info := server.info()
			info.Timeout = 200 * time.Millisecond
			if tt.info != nil {
				tt.info(&info)
			}

			client, err := Dial(t.Context(), info, DialOptions{DialFn: server.dial})
			if tt.wantErr != "" {
				require.ErrorContains(t, err, tt.wantErr)
				require.ErrorContains(t, err, "dial ssh: after retrying")
				require.NotContains(t, err.Error(), "guess")
				return
			}
			require.NoError(t, err)
			require.NoError(t, client.Close())
			server.stop()
			require.Equal(t, tt.want, attempted)
		}))
	}
}

// inBubble gives a test the time of testing/synctest, which passes only while everybody waits.
func inBubble(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

func TestSSHRefusesAKeyItCannotUse(t *testing.T) {
	for name, tt := range map[string]struct{ key, want string }{
		"no key":    {"hello", `reading the private key for instance "i-1" (it must be in PEM form)`},
		"encrypted": {encryptedKey, `the private key for instance "i-1" is encrypted`},
	} {
		t.Run(name, func(t *testing.T) {
			info := provider.ConnectInfo{ID: "i-1", InternalAddr: "unreachable"}
			info.Key = []byte(tt.key)
			_, err := DialSSH(t.Context(), info, DialOptions{})
			require.ErrorContains(t, err, tt.want)
		})
	}
}

// A key of the legacy form; only its header matters.
const encryptedKey = `-----BEGIN RSA PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,00000000000000000000000000000000

AAAA
-----END RSA PRIVATE KEY-----
`

func TestSSHRetriesAServerThatDropsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		info := provider.ConnectInfo{ID: "i-1", InternalAddr: "instance"}
		info.Timeout = 500 * time.Millisecond
		_, err := Dial(t.Context(), info, DialOptions{DialFn: func(context.Context, string, string) (net.Conn, error) {
			client, server := memoryPipe()
			server.Close()
			return client, nil
		}})
		require.ErrorContains(t, err, "dial ssh: after retrying 3 times during 500ms timeout: ssh: handshake failed: ")
	})
}

func TestSSHNamesTheAddressThatRefuses(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	listener.Close()

	info := provider.ConnectInfo{ID: "i-1", InternalAddr: address}
	info.Timeout = time.Second
	_, err = Dial(t.Context(), info, DialOptions{})
	require.ErrorContains(t, err, "dial tcp "+address+": connect: connection refused")
}

func TestSSHCapsTheWordsOfAServer(t *testing.T) {
	server := newScriptedServer(t)
	server.channel = func(c ssh.NewChannel) {
		c.Reject(ssh.ConnectionFailed, "\x1b[2J"+strings.Repeat("lorem ipsum ", 10_000))
	}
	client := server.connect(t, server.info())

	_, err := client.Dial("tcp", "10.0.0.2:80")
	require.Less(t, len(err.Error()), maxErrorText+200)
	require.NotContains(t, err.Error(), "\x1b")
	require.False(t, IsForwardingRefused(err), "somebody forwards, but nobody listens")
}

func TestSSHDialTellsRefusalsApart(t *testing.T) {
	tests := map[string]struct {
		network          string
		reason           ssh.RejectionReason
		refused, certain bool
	}{
		"forwarding prohibited":          {"unix", ssh.Prohibited, true, true},
		"unknown to the server":          {"unix", ssh.UnknownChannelType, true, true},
		"socket refused or not there":    {"unix", ssh.ConnectionFailed, true, false},
		"tcp prohibited":                 {"tcp", ssh.Prohibited, true, true},
		"tcp port closed":                {"tcp", ssh.ConnectionFailed, false, false},
		"server out of resources":        {"unix", ssh.ResourceShortage, false, false},
		"network that ssh does not have": {"npipe", 0, true, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			server := newScriptedServer(t)
			server.channel = func(c ssh.NewChannel) { c.Reject(tt.reason, "open failed") }
			client := server.connect(t, server.info())

			_, err := client.Dial(tt.network, "10.0.0.2:80")
			require.ErrorContains(t, err, "ssh tunnel: dial "+tt.network+" 10.0.0.2:80 from the instance: ")
			require.Equal(t, tt.refused, IsForwardingRefused(err), err)
			var refusal *ForwardingError
			if errors.As(err, &refusal) {
				require.Equal(t, tt.certain, refusal.Certain)
			}
			require.False(t, IsSessionLimit(err))
		})
	}
}

func TestSSHDialCanBeCancelled(t *testing.T) {
	server := newScriptedServer(t)
	asked := make(chan struct{})
	release := make(chan struct{})
	server.channel = func(c ssh.NewChannel) {
		close(asked)
		<-release
		c.Reject(ssh.ConnectionFailed, "too late")
	}
	client := server.connect(t, server.info())
	defer close(release)

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	_, err := client.DialContext(ctx, "tcp", "10.0.0.2:80")
	require.ErrorIs(t, err, context.Canceled)
}

func TestSSHForwardsBothWays(t *testing.T) {
	server := newScriptedServer(t)
	server.channel = echo
	client := server.connect(t, server.info())

	conn, err := client.Dial("unix", "/run/docker.sock")
	require.NoError(t, err)
	require.Equal(t, "unix", conn.RemoteAddr().Network())
	_, err = conn.Write([]byte("hello"))
	require.NoError(t, err)
	require.NoError(t, conn.(interface{ CloseWrite() error }).CloseWrite())
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	require.NoError(t, conn.Close())
	require.NoError(t, conn.Close())
}

func TestSSHClientCanBeUsedThroughAnother(t *testing.T) {
	inner := newScriptedServer(t)
	inner.channel = echo
	outer := newScriptedServer(t)
	outer.channel = func(request ssh.NewChannel) {
		channel, requests, err := request.Accept()
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		conn, _ := inner.dial(context.Background(), "tcp", "")
		outer.tasks.Go(func() { io.Copy(channel, conn); channel.Close() })
		io.Copy(conn, channel)
		conn.Close()
	}
	host := outer.connect(t, outer.info())
	info := inner.info()
	info.InternalAddr = "192.168.64.2:22"

	guest, err := Dial(t.Context(), info, DialOptions{DialFn: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return host.Dial(network, addr)
	}})
	require.NoError(t, err)
	conn, err := guest.Dial("tcp", "127.0.0.1:80")
	require.NoError(t, err)
	_, err = conn.Write([]byte("ping"))
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 4))
	require.NoError(t, err)
	require.NoError(t, guest.Close())
}

func TestSSHRefusesAChangedHostKeyAtOnce(t *testing.T) {
	server := newScriptedServer(t)
	known := &KnownHosts{}
	options := DialOptions{DialFn: server.dial, KnownHosts: known}

	client, err := Dial(t.Context(), server.info(), options)
	require.NoError(t, err)
	require.NoError(t, client.Close())

	server.hostKey = newSigner(t)
	_, err = Dial(t.Context(), server.info(), options)
	require.ErrorContains(t, err, `dial ssh: ssh: handshake failed: host key of instance "i-1" at instance:22 has changed: got`)
	require.ErrorAs(t, err, new(*HostKeyError))
	require.Equal(t, 2, server.dials)
}

func TestSSHLearnsNoHostKeyFromAFailedLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newScriptedServer(t)
		known := &KnownHosts{}
		options := DialOptions{DialFn: server.dial, KnownHosts: known}

		info := server.info()
		info.Password, info.Timeout = "guess", 50*time.Millisecond
		_, err := Dial(t.Context(), info, options)
		require.Error(t, err)

		// The image's host keys are replaced while the instance boots.
		server.hostKey = newSigner(t)
		client, err := Dial(t.Context(), server.info(), options)
		require.NoError(t, err)
		require.NoError(t, client.Close())
	})
}
