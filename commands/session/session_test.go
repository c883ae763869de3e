package session

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Server {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	o.Log = log
	if o.ListenAddress == "" {
		o.ListenAddress = "127.0.0.1:0"
	}
	s, err := Listen(o)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// echo is a shell that answers each line in capitals.
func echo(context.Context) (io.ReadWriteCloser, error) {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		lines := bufio.NewScanner(far)
		for lines.Scan() {
			if lines.Text() == "exit" {
				return
			}
			if _, err := io.WriteString(far, strings.ToUpper(lines.Text())+"\n"); err != nil {
				return
			}
		}
	}()
	return near, nil
}

// dialer trusts a session's certificate as GitLab does.
func dialer(t *testing.T, one *Session, protocols ...string) *websocket.Dialer {
	t.Helper()
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM([]byte(one.Info().Certificate)))
	return &websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, Subprotocols: protocols}
}

func dial(t *testing.T, one *Session, protocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	address := "wss" + strings.TrimPrefix(one.Info().URL, "https") + "/exec"
	return dialer(t, one, protocols...).Dial(address, http.Header{"Authorization": {one.Info().Authorization}})
}

func TestAUserTypesAndReads(t *testing.T) {
	s := start(t, Options{})
	for protocol, encode := range map[string]func(string) (int, []byte){
		plainProtocol: func(text string) (int, []byte) { return websocket.BinaryMessage, []byte(text) },
		base64Protocol: func(text string) (int, []byte) {
			return websocket.TextMessage, []byte(base64.StdEncoding.EncodeToString([]byte(text)))
		},
	} {
		t.Run(protocol, func(t *testing.T) {
			one := s.Open()
			one.Offer(echo)
			conn, _, err := dial(t, one, protocol)
			require.NoError(t, err)
			defer conn.Close()
			require.Equal(t, protocol, conn.Subprotocol())
			kind, data := encode("hello\n")
			require.NoError(t, conn.WriteMessage(kind, data))
			gotKind, got, err := conn.ReadMessage()
			require.NoError(t, err)
			wantKind, want := encode("HELLO\n")
			require.Equal(t, wantKind, gotKind)
			require.Equal(t, string(want), string(got))

			select {
			case <-one.Disconnected():
				require.Fail(t, "somebody is connected")
			default:
			}
			gone := one.Disconnected()
			_, data = encode("exit\n")
			require.NoError(t, conn.WriteMessage(kind, data))
			_, _, err = conn.ReadMessage()
			require.True(t, websocket.IsCloseError(err, websocket.CloseNormalClosure), "%v", err)
			<-gone
			<-one.Disconnected()
			one.Close()
		})
	}
}

func TestStrangersAreRefused(t *testing.T) {
	s := start(t, Options{})
	one, other := s.Open(), s.Open()
	one.Offer(echo)
	other.Offer(func(context.Context) (io.ReadWriteCloser, error) { return nil, errors.New("no shell in here") })
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: dialer(t, one).TLSClientConfig}}
	defer client.CloseIdleConnections()
	for name, c := range map[string]struct {
		session *Session
		path    string
		secret  string
		upgrade bool
		want    int
	}{
		"another's secret": {one, "/exec", other.Info().Authorization, true, http.StatusUnauthorized},
		"no secret":        {one, "/exec", "", true, http.StatusUnauthorized},
		"no websocket":     {one, "/exec", one.Info().Authorization, false, http.StatusMethodNotAllowed},
		"another session":  {one, "0/exec", one.Info().Authorization, true, http.StatusNotFound},
		"no proxy":         {one, "/proxy/db/80/", one.Info().Authorization, true, http.StatusNotFound},
		"no shell":         {other, "/exec", other.Info().Authorization, true, http.StatusInternalServerError},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.session.Info().URL+c.path, nil)
			require.NoError(t, err)
			request.Header.Set("Authorization", c.secret)
			if c.upgrade {
				request.Header.Set("Connection", "Upgrade")
				request.Header.Set("Upgrade", "websocket")
				request.Header.Set("Sec-WebSocket-Version", "13")
				request.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
			}
			answer, err := client.Do(request)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			require.Equal(t, c.want, answer.StatusCode)
		})
	}
}

func TestOneUserAtATimeIsLetIn(t *testing.T) {
	s := start(t, Options{})
	one := s.Open()
	one.Offer(echo)
	first, _, err := dial(t, one)
	require.NoError(t, err)
	_, answer, err := dial(t, one)
	require.Error(t, err)
	require.Equal(t, http.StatusLocked, answer.StatusCode)
	gone := one.Disconnected()
	require.NoError(t, first.Close())
	<-gone
	again, _, err := dial(t, one)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestTheUserIsToldWhyASessionEnds(t *testing.T) {
	s := start(t, Options{})
	one := s.Open()
	one.Offer(echo)
	conn, _, err := dial(t, one)
	require.NoError(t, err)
	defer conn.Close()
	one.End(errors.New("terminal session timed out (maximum time allowed - 5s)"))
	_, _, err = conn.ReadMessage()
	require.ErrorContains(t, err, "terminal session timed out (maximum time allowed - 5s)")
	_, answer, err := dial(t, one)
	require.Error(t, err)
	require.Equal(t, http.StatusNotFound, answer.StatusCode, "the session is forgotten")
}

func TestAUserWhoIsEarlyWaitsForTheContainer(t *testing.T) {
	s := start(t, Options{})
	one := s.Open()
	connected := make(chan error, 1)
	go func() {
		conn, _, err := dial(t, one)
		if err == nil {
			err = conn.Close()
		}
		connected <- err
	}()
	one.Offer(echo)
	require.NoError(t, <-connected)
}

// breaking is a socket that can be made to fail.
type breaking struct {
	net.Listener
	fail chan error
}

func (b breaking) Accept() (net.Conn, error) { return nil, <-b.fail }

func TestAServerThatFailsSaysSoAndOpensNoFurtherSessions(t *testing.T) {
	log, hook := logtest.NewNullLogger()
	socket := breaking{fail: make(chan error)}
	s, err := listen(Options{ListenAddress: "127.0.0.1:0", Log: log}, func(network, address string) (net.Listener, error) {
		var err error
		socket.Listener, err = net.Listen(network, address)
		return socket, err
	})
	require.NoError(t, err)
	defer s.Close()
	one := s.Open()
	require.NotNil(t, one)

	socket.fail <- errors.New("the network is gone")
	<-s.done
	require.Nil(t, s.Open())
	one.Close()
	var errs []string
	for _, entry := range hook.AllEntries() {
		if entry.Level == logrus.ErrorLevel {
			errs = append(errs, fmt.Sprint(entry.Message, ": ", entry.Data["error"]))
		}
	}
	require.Equal(t, []string{"Session server terminated: there are no web terminals until the runner is started again: the network is gone"}, errs)
}

func TestThePublicAddressIsTold(t *testing.T) {
	s := start(t, Options{AdvertiseAddress: "runner.example.com:8093"})
	require.True(t, strings.HasPrefix(s.Open().Info().URL, "https://runner.example.com:8093/session/"))
	_, err := Listen(Options{ListenAddress: "127.0.0.1:0", AdvertiseAddress: "https://runner.example.com"})
	require.ErrorContains(t, err, "url not valid, scheme defined")
	_, err = Listen(Options{ListenAddress: "nonsense"})
	require.ErrorContains(t, err, "session_server listen_address: ")
}
