package network

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const (
	testURL   = "http://user:password@gitlab.example.com/sub"
	testToken = "glrt-t1_abcdefghijklmnop"
)

// pipeListener is a server's end of connections in memory, so that servers and clients can be tested in
// a bubble of fake time.
type pipeListener struct {
	connections chan net.Conn
	once        sync.Once
	closed      chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{connections: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.connections:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.connections <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// received is a request as the server got it.
type received struct {
	*http.Request
	body []byte
}

// testServer is a GitLab that answers with a function and remembers what it was asked.
type testServer struct {
	client *Client
	logs   *logtest.Hook
	dials  int

	mu       sync.Mutex
	requests []received
	samples  []RequestSample
	attempts map[string]int
}

func (s *testServer) RequestDone(sample RequestSample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, sample)
}

func (s *testServer) RequestAttempts(method, path string, attempts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts[method+" "+path] += attempts
}

func (s *testServer) all() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]received(nil), s.requests...)
}

func (s *testServer) logged() string {
	text := ""
	for _, entry := range s.logs.AllEntries() {
		line, err := entry.String()
		if err == nil {
			text += line
		}
	}
	return text
}

// newTestServer starts a server in memory. To be called in a bubble.
func newTestServer(t *testing.T, answer func(w http.ResponseWriter, r received)) *testServer {
	t.Helper()
	logger, hook := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	s := &testServer{logs: hook, attempts: map[string]int{}}
	s.client = New(Options{
		Version: version.Info{Name: "gitlab-runner", Version: "1.2.3", Revision: "abc", Branch: "main", GOVersion: "go1", OS: "linux", Arch: "amd64"},
		Logger:  logger, Recorder: s, ConnectionMaxAge: DefaultConnectionMaxAge,
	})
	listener := newPipeListener()
	s.client.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		s.mu.Lock()
		s.dials++
		s.mu.Unlock()
		return listener.dial(ctx, network, address)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		got := received{r, body}
		s.mu.Lock()
		s.requests = append(s.requests, got)
		s.mu.Unlock()
		answer(w, got)
	})}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() {
		s.client.Close()
		require.NoError(t, server.Close())
		serving.Wait()
	})
	return s
}

func answerJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func testRunner() *config.Runner {
	return &config.Runner{Name: "test", URL: testURL, Token: testToken, SystemID: "s_0123456789ab", Executor: "docker-autoscaler"}
}

func decoded(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var out map[string]any
	require.NoError(t, json.Unmarshal(body, &out), string(body))
	return out
}
