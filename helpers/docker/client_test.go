package docker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/registry"
	"github.com/stretchr/testify/require"
)

// engineOn serves handler as an engine and returns a client of it and the number of its connections.
func engineOn(t *testing.T, handler http.HandlerFunc) (*Client, *atomic.Int64) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: handler}}
	server.Start()
	t.Cleanup(server.Close)
	dials := &atomic.Int64{}
	client, err := New(Options{Host: TunnelHost, APIVersion: "1.41", Dial: func(ctx context.Context) (net.Conn, error) {
		dials.Add(1)
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client, dials
}

func TestServerSettlesOnTheOlderAPIVersion(t *testing.T) {
	for offered, agreed := range map[string]string{"1.41": "1.41", "1.51": "1.51", "1.99": "1.51"} {
		var asked string
		client, dials := engineOn(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", offered)
			if r.URL.Path != "/_ping" {
				asked = r.URL.Path
				_, _ = io.WriteString(w, `{"Os":"linux","Arch":"amd64","KernelVersion":"6.1","Version":"20.10"}`)
			}
		})
		server, err := client.Server(t.Context())
		require.NoError(t, err)
		require.Equal(t, Server{OS: "linux", Arch: "amd64", Kernel: "6.1", Version: "20.10", APIVersion: agreed}, server)
		require.Equal(t, "/v"+agreed+"/version", asked)
		require.EqualValues(t, 1, dials.Load(), "plain calls share a connection")
	}
}

func TestAnythingElseThanAnEngineIsNamed(t *testing.T) {
	client, _ := engineOn(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	_, err := client.Server(t.Context())
	require.ErrorContains(t, err, "is no docker engine")
}

func TestRedirectsAreRefused(t *testing.T) {
	client, _ := engineOn(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
	})
	_, err := client.ImageInspect(t.Context(), "x", nil)
	require.ErrorContains(t, err, "redirects disallowed")
}

func TestAnAnswerWithoutEndIsCutOff(t *testing.T) {
	client, _ := engineOn(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"Id":"`)
		block := bytes.Repeat([]byte("a"), 1<<20)
		for range 64 {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	_, err := client.ImageInspect(t.Context(), "x", nil)
	require.ErrorContains(t, err, "longer than 32 MiB")
}

func TestAnUnreachableEngineIsNamedAsUsersKnowIt(t *testing.T) {
	client, err := New(Options{Host: TunnelHost, Dial: func(context.Context) (net.Conn, error) {
		return nil, errors.New("dial unix /var/run/docker.sock: connection refused")
	}})
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Server(t.Context())
	require.ErrorContains(t, err, TunnelHost)
	require.True(t, IsConnectionFailed(err))
}

// hijackWith takes the connection over and hands it to use.
func hijackWith(use func(conn net.Conn, in *bufio.ReadWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, in, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		use(conn, in)
	}
}

const switching = "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

func TestAttachCarriesBothDirections(t *testing.T) {
	client, _ := engineOn(t, hijackWith(func(conn net.Conn, in *bufio.ReadWriter) {
		// The first output comes together with the answer.
		_, _ = io.WriteString(conn, switching+frame(1, "early "))
		text, _ := io.ReadAll(in)
		_, _ = io.WriteString(conn, frame(1, "got "+string(text))+frame(2, "done"))
	}))
	stream, err := client.ContainerAttach(t.Context(), "c1")
	require.NoError(t, err)
	_, err = io.WriteString(stream, "input")
	require.NoError(t, err)
	require.NoError(t, stream.CloseWrite())
	var stdout, stderr bytes.Buffer
	require.NoError(t, stream.Copy(&stdout, &stderr))
	require.Equal(t, "early got input", stdout.String())
	require.Equal(t, "done", stderr.String())
	require.NoError(t, stream.Close())
}

func TestAttachEndsWithItsContextWhileTheEngineIsSilent(t *testing.T) {
	silent := make(chan struct{})
	defer close(silent)
	client, _ := engineOn(t, hijackWith(func(net.Conn, *bufio.ReadWriter) { <-silent }))
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("given up")
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	_, err := client.ContainerAttach(ctx, "c1")
	require.ErrorIs(t, err, why)
}

func TestARefusedStreamIsOfTheSameClassAsARefusedCall(t *testing.T) {
	for status, is := range map[int]func(error) bool{
		http.StatusNotFound: IsNotFound, http.StatusConflict: IsConflict, http.StatusBadRequest: IsInvalid,
	} {
		client, _ := engineOn(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"message":"No such container: c1"}`)
		})
		_, err := client.ContainerAttach(t.Context(), "c1")
		require.EqualError(t, err, "Error response from daemon: No such container: c1")
		require.True(t, is(err), "status %d", status)
		_, err = client.ContainerInspect(t.Context(), "c1")
		require.EqualError(t, err, "Error response from daemon: No such container: c1")
		require.True(t, is(err), "status %d", status)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	client, _ := engineOn(t, hijackWith(func(conn net.Conn, in *bufio.ReadWriter) {
		_, _ = io.WriteString(conn, switching)
		_, _ = io.Copy(io.Discard, in)
	}))
	stream, err := client.ContainerAttach(t.Context(), "c1")
	require.NoError(t, err)
	require.NoError(t, client.Close())
	require.Error(t, stream.Copy(io.Discard, io.Discard))
	_, err = client.ContainerAttach(t.Context(), "c1")
	require.True(t, IsConnectionFailed(err), "%v", err)
}

func TestAWaitAskedForBeforeTheStartTellsOfTheNextEnd(t *testing.T) {
	release := make(chan struct{})
	client, _ := engineOn(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "next-exit", r.URL.Query().Get("condition"))
		w.(http.Flusher).Flush()
		<-release
		_, _ = io.WriteString(w, `{"StatusCode":4294967295}`)
	})
	exit := client.ContainerWait(t.Context(), "c1", false)
	require.Empty(t, exit)
	close(release)
	require.Equal(t, Exit{Code: -1}, <-exit)
}

func TestPullReportsAndFailsWithTheRegistrysWords(t *testing.T) {
	var auth, query string
	answer := `{"status":"Pulling from library/x","id":"latest"}
{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"abc"}
`
	client, _ := engineOn(t, func(w http.ResponseWriter, r *http.Request) {
		auth, query = r.Header.Get("X-Registry-Auth"), r.URL.RawQuery
		_, _ = io.WriteString(w, answer)
	})
	var reports []Progress
	pull := Pull{Ref: "registry.example.com/x:1", Platform: "linux/arm64", Auth: &registry.AuthConfig{Username: "u"}}
	require.NoError(t, client.ImagePull(t.Context(), pull, func(p Progress) { reports = append(reports, p) }))
	require.Equal(t, Progress{Layer: "abc", Status: "Downloading", Current: 5, Total: 10}, reports[1])
	require.NotEmpty(t, auth)
	require.Contains(t, query, "platform=linux%2Farm64")

	answer += `{"errorDetail":{"message":"manifest unknown"},"error":"manifest unknown"}` + "\n"
	require.EqualError(t, client.ImagePull(t.Context(), pull, nil), "manifest unknown")

	answer = `{"status":"` + strings.Repeat("x", reportLimit+1)
	require.ErrorContains(t, client.ImagePull(t.Context(), pull, nil), "reading the engine's progress")
}

func TestLoadReturnsTheNameOfTheImage(t *testing.T) {
	for text, want := range map[string]string{"Loaded image: x:1": "x:1", "Loaded image ID: sha256:ab": "sha256:ab"} {
		client, _ := engineOn(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = fmt.Fprintf(w, "{\"stream\":%q}\n", text+"\n")
		})
		loaded, err := client.ImageLoad(t.Context(), strings.NewReader("tar"))
		require.NoError(t, err)
		require.Equal(t, want, loaded)
	}
}

func TestEndpointsThatCannotBeUnderstoodAreNamed(t *testing.T) {
	for host, want := range map[string]string{
		"nonsense":      `docker endpoint "nonsense"`,
		"ftp://x":       `scheme "ftp" is not one of`,
		"tcp://x:2376":  "",
		"unix:///x":     "",
		"https://x:443": "",
	} {
		client, err := New(Options{Host: host})
		if want == "" {
			require.NoError(t, err)
			require.NoError(t, client.Close())
			continue
		}
		require.ErrorContains(t, err, want)
	}
}

func TestMissingCertificatesAreNamed(t *testing.T) {
	_, err := New(Options{Host: "tcp://x:2376", CertPath: t.TempDir(), Verify: true})
	require.ErrorContains(t, err, "reading certificates")
}

func TestTheEnvironmentNamesTheEngineWhereTheConfigurationDoesNot(t *testing.T) {
	t.Setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
	t.Setenv("DOCKER_API_VERSION", "1.40")
	client, err := New(Options{})
	require.NoError(t, err)
	defer client.Close()
	require.Equal(t, "tcp://192.0.2.1:2375", client.host)
	require.Equal(t, "1.40", client.library().ClientVersion())
}
