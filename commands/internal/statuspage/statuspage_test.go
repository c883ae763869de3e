package statuspage_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/statuspage"
	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/autoscaler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source notes what it is asked to do.
type source struct{ done []string }

func (s *source) Status() manager.Status { return manager.Status{Version: "1.2.3", Concurrent: 4} }
func (s *source) note(what, runner string) ([]string, error) {
	if runner == "unknown" {
		return nil, fmt.Errorf("%w: %q", manager.ErrUnknownRunner, runner)
	}
	s.done = append(s.done, what+" "+runner)
	return []string{runner}, nil
}
func (s *source) Pause(runner string) ([]string, error)  { return s.note("pause", runner) }
func (s *source) Resume(runner string) ([]string, error) { return s.note("resume", runner) }
func (s *source) Drain(runner, instance string) error {
	if instance == "unknown" {
		return fmt.Errorf("draining: %w", autoscaler.ErrUnknownInstance)
	}
	s.done = append(s.done, "drain "+runner+"/"+instance)
	return nil
}

// request is one request and what must come of it.
type request struct {
	method, path, host, peer, body string
	headers                        map[string]string
	want                           int
	says, does                     string
}

func TestWhoMayAskAndAct(t *testing.T) {
	const own, other = "127.0.0.1:9252", "192.0.2.7:9252"
	action := map[string]string{statuspage.ActionHeader: "1"}
	get := func(path, host string, want int) request {
		return request{method: "GET", path: path, host: host, peer: "127.0.0.1:4000", want: want}
	}
	for name, test := range map[string]struct {
		listen   string
		remote   bool
		requests []request
	}{
		"on loopback": {listen: own, requests: []request{
			get("/status", own, 200), get("/status.json", "localhost:9252", 200), get("/status.json", "[::1]:9252", 200),
			get("/status.json", "rebound.example.com:9252", 403), get("/status", "192.0.2.7:9252", 403),
			{method: "POST", path: "/status/pause", host: own, peer: "127.0.0.1:4000", body: `{"runner":"a"}`, want: 403, says: "header"},
			{method: "POST", path: "/status/pause", host: own, peer: "127.0.0.1:4000", body: `{"runner":"a"}`, headers: action, want: 200, says: `"runners":["a"]`, does: "pause a"},
			{method: "POST", path: "/status/resume", host: own, peer: "127.0.0.1:4000", body: `{"runner":"a"}`, headers: action, want: 200, does: "resume a"},
			{method: "POST", path: "/status/drain", host: own, peer: "127.0.0.1:4000", body: `{"instance":"i-1"}`, headers: action, want: 200, does: "drain /i-1"},
			{method: "POST", path: "/status/drain", host: own, peer: "127.0.0.1:4000", body: `{}`, headers: action, want: 400, says: "name the instance"},
			{method: "POST", path: "/status/drain", host: own, peer: "127.0.0.1:4000", body: `{"instance":"unknown"}`, headers: action, want: 404, says: "no such instance"},
			{method: "POST", path: "/status/pause", host: own, peer: "127.0.0.1:4000", body: `{"runner":"unknown"}`, headers: action, want: 404, says: "no such runner"},
			{method: "POST", path: "/status/dance", host: own, peer: "127.0.0.1:4000", body: `{}`, headers: action, want: 404},
			{method: "POST", path: "/status/pause", host: own, peer: "127.0.0.1:4000", body: `{"runer":"a"}`, headers: action, want: 400, says: "runer"},
			{method: "POST", path: "/status/pause", host: own, peer: "127.0.0.1:4000", body: `{"runner":"` + strings.Repeat("a", 20<<10) + `"}`, headers: action, want: 400},
			{
				method: "POST", path: "/status/pause", host: own, peer: "127.0.0.1:4000", body: `{}`, want: 403,
				headers: map[string]string{statuspage.ActionHeader: "1", "Origin": "https://example.com"},
			},
			{
				method: "POST", path: "/status/pause", host: own, peer: "127.0.0.1:4000", body: `{}`, want: 403,
				headers: map[string]string{statuspage.ActionHeader: "1", "Sec-Fetch-Site": "cross-site"},
			},
			get("/status/pause", own, 405),
		}},
		"on another address": {listen: other, requests: []request{
			{method: "GET", path: "/status.json", host: other, peer: "192.0.2.9:4000", want: 403, says: "status_remote"},
			get("/status", own, 403),
			{method: "POST", path: "/status/pause", host: own, peer: "127.0.0.1:4000", body: `{}`, headers: action, want: 403},
		}},
		"on all addresses": {listen: "[::]:9252", requests: []request{get("/status.json", own, 403)}},
		"on another address that is allowed": {listen: other, remote: true, requests: []request{
			{method: "GET", path: "/status.json", host: other, peer: "192.0.2.9:4000", want: 200},
			{method: "GET", path: "/status", host: "runner-host:9252", peer: "192.0.2.9:4000", want: 200},
			{method: "GET", path: "/status", host: "rebound.example.com", peer: "192.0.2.9:4000", want: 403},
			{method: "POST", path: "/status/pause", host: other, peer: "192.0.2.9:4000", body: `{}`, headers: action, want: 403, says: "this machine only"},
			{method: "POST", path: "/status/pause", host: own, peer: "192.0.2.9:4000", body: `{}`, headers: action, want: 403},
			{method: "POST", path: "/status/pause", host: own, peer: "127.0.0.1:4000", body: `{}`, headers: action, want: 200, does: "pause "},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			mux, s := http.NewServeMux(), &source{}
			address, err := net.ResolveTCPAddr("tcp", test.listen)
			require.NoError(t, err)
			statuspage.Register(mux, statuspage.Options{Source: s, Listen: address, Remote: test.remote, Hostname: "runner-host"})
			for _, r := range test.requests {
				s.done = nil
				asked := httptest.NewRequest(r.method, r.path, strings.NewReader(r.body))
				asked.Host, asked.RemoteAddr = r.host, r.peer
				for key, value := range r.headers {
					asked.Header.Set(key, value)
				}
				got := httptest.NewRecorder()
				mux.ServeHTTP(got, asked)
				what := fmt.Sprintf("%s %s to %s from %s: %s", r.method, r.path, r.host, r.peer, got.Body)
				require.Equal(t, r.want, got.Code, what)
				require.Contains(t, got.Body.String(), r.says, what)
				if r.does == "" {
					require.Empty(t, s.done, what)
				} else {
					require.Equal(t, []string{r.does}, s.done, what)
				}
			}
		})
	}
}

func TestThePageIsOneDocumentWithoutAnythingFromElsewhere(t *testing.T) {
	mux := http.NewServeMux()
	statuspage.Register(mux, statuspage.Options{Source: &source{}, Listen: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}})
	asked := httptest.NewRequest("GET", "/status", nil)
	asked.Host = "127.0.0.1"
	got := httptest.NewRecorder()
	mux.ServeHTTP(got, asked)
	require.Equal(t, http.StatusOK, got.Code)
	html := got.Body.String()
	require.Contains(t, html, "<title>GitLab Runner status</title>")
	require.Contains(t, html, "prefers-color-scheme: dark")
	for _, from := range []string{"src=", "@import", "url(", "innerHTML", "/*style*/", "/*script*/", "<link rel=\"stylesheet\""} {
		require.NotContains(t, html, from)
	}
	require.Contains(t, got.Header().Get("Content-Security-Policy"), "default-src 'none'; script-src 'sha256-")
}

func TestAClientSaysWhyItGotNothing(t *testing.T) {
	_, _, err := statuspage.NewClient("127.0.0.1:1").Status(t.Context())
	require.ErrorIs(t, err, statuspage.ErrNoManager)
	require.ErrorContains(t, err, "127.0.0.1:1")

	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	_, _, err = statuspage.NewClient(other.Listener.Addr().String()).Status(t.Context())
	require.ErrorIs(t, err, statuspage.ErrNoManager)

	mux := http.NewServeMux()
	statuspage.Register(mux, statuspage.Options{Source: &source{}, Listen: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}})
	closed := httptest.NewServer(mux)
	defer closed.Close()
	_, _, err = statuspage.NewClient(closed.Listener.Addr().String()).Status(t.Context())
	require.ErrorContains(t, err, "status_remote")
}
