package connector

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func bothWinRM(t *testing.T, test func(t *testing.T, server *winrmServer)) {
	for name, https := range map[string]bool{"http": false, "https": true} {
		t.Run(name, func(t *testing.T) { test(t, newWinRMServer(t, https)) })
	}
}

func TestWinRMRunsCommands(t *testing.T) {
	bothWinRM(t, func(t *testing.T, server *winrmServer) {
		client, err := Dial(t.Context(), server.info(), DialOptions{})
		require.NoError(t, err)
		defer client.Close()

		var stdout, stderr bytes.Buffer
		err = client.Run(t.Context(), RunOptions{
			Command: "cat; echo 'a < b && c' >&2; sleep 0.2; exit 42",
			Stdin:   strings.NewReader("input\r\n"),
			Stdout:  &stdout,
			Stderr:  &stderr,
		})
		var exit *ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 42, exit.ExitCode())
		require.Equal(t, "input\r\n", stdout.String())
		require.Equal(t, "a < b && c\n", stderr.String())

		require.NoError(t, client.Run(t.Context(), RunOptions{Command: "true"}))
		require.Equal(t, []string{"FALSE", "TRUE"}, server.consoles, "a command with input gets a pipe")
		require.Zero(t, server.open())
	})
}

func TestWinRMPassesMuchOutputOn(t *testing.T) {
	client := newWinRMServer(t, false).connect(t)
	var stdout bytes.Buffer
	require.NoError(t, client.Run(t.Context(), RunOptions{Command: "seq 100000", Stdout: &stdout}))
	require.Equal(t, 588895, stdout.Len())
}

func TestWinRMDialRun(t *testing.T) {
	bothWinRM(t, func(t *testing.T, server *winrmServer) {
		client := server.connect(t)

		t.Run("carries data and half closes", func(t *testing.T) {
			conn, err := client.DialRun(t.Context(), "cat")
			require.NoError(t, err)
			data := bytes.Repeat([]byte("0123456789\x00\xff\r\n"), 10_000)
			_, err = conn.Write(data)
			require.NoError(t, err)
			require.NoError(t, conn.(*tunnel).CloseWrite())
			got, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.True(t, bytes.Equal(data, got))
			require.NoError(t, conn.Close())
			require.NoError(t, conn.Close())
		})
		t.Run("tells how the command failed", func(t *testing.T) {
			conn, err := client.DialRun(t.Context(), "echo no such pipe >&2; exit 3")
			require.NoError(t, err)
			defer conn.Close()
			_, err = io.ReadAll(conn)
			require.EqualError(t, err, "winrm tunnel: Process exited with status 3 (no such pipe)")
			require.ErrorAs(t, err, new(*ExitError))
		})
		t.Run("ends with its context", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			conn, err := client.DialRun(ctx, "cat")
			require.NoError(t, err)
			cancel()
			_, err = conn.Read(make([]byte, 1))
			require.ErrorIs(t, err, context.Canceled)
		})
		t.Run("is closed with its client", func(t *testing.T) {
			conn, err := client.DialRun(context.Background(), "cat")
			require.NoError(t, err)
			require.NoError(t, client.Close())
			_, err = conn.Read(make([]byte, 1))
			require.Error(t, err)
			require.Zero(t, server.open())
		})
	})
}

func TestWinRMRunEndsWithItsContext(t *testing.T) {
	server := newWinRMServer(t, false)
	client := server.connect(t)
	cause := errors.New("the job was cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	err := client.Run(ctx, RunOptions{Command: "echo started; exec sleep 1000", Stdout: writerFunc(func(p []byte) (int, error) {
		if len(p) > 0 {
			cancel(cause)
		}
		return len(p), nil
	})})
	require.ErrorIs(t, err, cause)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "winrm run: ")
	require.Zero(t, server.open(), "the shell is closed, and with it the command")
}

func TestWinRMDoesNotForward(t *testing.T) {
	client := newWinRMServer(t, false).connect(t)
	_, err := client.Dial("npipe", "//./pipe/docker_engine")
	require.True(t, IsForwardingRefused(err))
	require.EqualError(t, err,
		"winrm tunnel: dial npipe //./pipe/docker_engine from the instance: forwarding is refused: winrm does not forward connections")
}

func TestWinRMLogin(t *testing.T) {
	tests := map[string]struct {
		server   func(*winrmServer)
		username string
		password string
		wantErr  string
	}{
		"plain ntlm":           {server: func(s *winrmServer) { s.scheme = "NTLM" }},
		"basic is not for us":  {server: func(s *winrmServer) { s.scheme = "Basic" }, wantErr: "the server offers neither Negotiate nor NTLM authentication"},
		"wrong password":       {password: "guess", wantErr: "winrm: unable to authenticate: the server refused the user name or the password"},
		"unknown domain":       {username: `CORP\Administrator`, wantErr: "winrm: unable to authenticate"},
		"without encryption":   {server: func(s *winrmServer) { s.flags &^= ntlmSeal }, wantErr: "the server does not agree to 128-bit NTLM encryption: use winrm+https"},
		"with weak encryption": {server: func(s *winrmServer) { s.flags &^= ntlm128 }, wantErr: "the server does not agree to 128-bit NTLM encryption: use winrm+https"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tt.server == nil {
				tt.server = func(*winrmServer) {}
			}
			info := newWinRMServer(t, false, tt.server).info()
			if tt.username != "" {
				info.Username = tt.username
			}
			if tt.password != "" {
				info.Password = tt.password
			}
			client, err := dialOnce(t, info)
			if tt.wantErr != "" {
				require.ErrorContains(t, err, tt.wantErr)
				require.ErrorContains(t, err, "dial winrm: ")
				require.NotContains(t, err.Error(), "guess")
				return
			}
			require.NoError(t, err)
			require.NoError(t, client.Close())
		})
	}
}

// dialOnce gives up instead of a second try, however long the first takes.
func dialOnce(t *testing.T, info provider.ConnectInfo) (Client, error) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tries := 0
	info.Timeout = time.Hour
	return Dial(ctx, info, DialOptions{DialFn: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if tries++; tries > 1 {
			cancel()
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}})
}

func TestWinRMNeedsAPassword(t *testing.T) {
	info := newWinRMServer(t, false).info()
	info.Password, info.Key = "", []byte("key")
	_, err := Dial(t.Context(), info, DialOptions{})
	require.EqualError(t, err, `dial winrm: instance "i-1": winrm needs a password (a private key cannot be used)`)
}

func TestWinRMOverHTTPSPinsTheKey(t *testing.T) {
	known := &KnownHosts{}
	info := newWinRMServer(t, true).info()
	client, err := Dial(t.Context(), info, DialOptions{KnownHosts: known})
	require.NoError(t, err)
	require.NoError(t, client.Close())

	client, err = Dial(t.Context(), info, DialOptions{KnownHosts: known})
	require.NoError(t, err)
	require.NoError(t, client.Close())

	name := pinName{instance: "i-1", protocol: info.Protocol}
	known.Forget("i-1")
	known.pin(name, hostKey{algorithm: "tls", fingerprint: "SHA256:other"})
	_, err = Dial(t.Context(), info, DialOptions{KnownHosts: known})
	var refused *HostKeyError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []string{"tls SHA256:other"}, refused.Expected)
	require.NotContains(t, err.Error(), "retrying")
}

func TestWinRMReportsWhatTheServerSays(t *testing.T) {
	tests := map[string]struct {
		answer  func(w http.ResponseWriter)
		wantErr string
	}{
		"fault": {
			func(w http.ResponseWriter) { fault(w, "5", "Access is \x1b[31mdenied.") },
			`XML syntax error`,
		},
		"readable fault": {
			func(w http.ResponseWriter) { fault(w, "5", "Access is denied.") },
			`opening a shell: the server reported a fault (code "5"): Access is denied.`,
		},
		"no shell": {
			func(w http.ResponseWriter) { reply(w, "") },
			"the server's answer has no valid shell id",
		},
		"odd shell": {
			func(w http.ResponseWriter) { reply(w, "<rsp:Shell><rsp:ShellId>../x</rsp:ShellId></rsp:Shell>") },
			"the server's answer has no valid shell id",
		},
		"no message": {
			func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) },
			"the server answered with http status 503 and no SOAP message",
		},
		"endless": {
			func(w http.ResponseWriter) { reply(w, strings.Repeat("<x>", 1<<19)) },
			"the answer is larger than 1048576 bytes",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			server := newWinRMServer(t, true)
			client := server.connect(t)
			server.answer = func(w http.ResponseWriter, _ soapRequest) bool {
				tt.answer(w)
				return true
			}
			err := client.Run(t.Context(), RunOptions{Command: "true"})
			require.ErrorContains(t, err, tt.wantErr)
			require.ErrorContains(t, err, "winrm run: ")
			require.Less(t, len(err.Error()), maxErrorText+500)
		})
	}
}

func TestWinRMExitCodesAreUnsigned(t *testing.T) {
	server := newWinRMServer(t, true)
	client := server.connect(t)
	server.answer = func(w http.ResponseWriter, r soapRequest) bool {
		if r.Action != wsmanReceive {
			return false
		}
		reply(w, `<rsp:ReceiveResponse><rsp:CommandState State="`+wsmanDone+`"><rsp:ExitCode>-1073741510</rsp:ExitCode></rsp:CommandState></rsp:ReceiveResponse>`)
		return true
	}
	var exit *ExitError
	require.ErrorAs(t, client.Run(t.Context(), RunOptions{Command: "true"}), &exit)
	require.Equal(t, 0xC000013A, exit.ExitCode())
}

func TestWinRMOpensANewConnectionAfterAnIdleTime(t *testing.T) {
	server := newWinRMServer(t, false)
	client := server.connect(t)
	for _, l := range client.idle {
		l.lastUse = l.lastUse.Add(-time.Hour)
		l.close()
	}
	require.NoError(t, client.Run(t.Context(), RunOptions{Command: "true"}))
}

func TestWinRMIsWaitedFor(t *testing.T) {
	server := newWinRMServer(t, false)
	tries := 0
	server.answer = func(w http.ResponseWriter, _ soapRequest) bool {
		if tries++; tries < 3 {
			fault(w, "2150859193", "The service is starting.")
			return true
		}
		return false
	}
	client, err := Dial(t.Context(), server.info(), DialOptions{})
	require.NoError(t, err)
	require.NoError(t, client.Close())
}
