//go:build system

package s3server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/network/objectstore"
	"gitlab.com/gitlab-org/gitlab-runner/tests/s3server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T) *s3server.Server {
	t.Helper()
	server, err := s3server.Start(t.TempDir(), "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	return server
}

// store makes a store from the lines that a user would write, changed as a test wants.
func store(t *testing.T, server *s3server.Server, change func(*config.CacheS3)) *objectstore.Store {
	t.Helper()
	c := &config.CacheS3{
		ServerAddress: server.Address,
		AccessKey:     server.AccessKey,
		SecretKey:     server.SecretKey,
		BucketName:    server.Bucket,
		Insecure:      true,
	}
	if change != nil {
		change(c)
	}
	log := logrus.New()
	log.SetOutput(t.Output())
	s, err := objectstore.New(&config.Cache{Type: "S3", S3: c}, log, nil)
	require.NoError(t, err)
	return s
}

// helper is a plain client, as the helper's is.
func helper(t *testing.T) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func send(t *testing.T, client *http.Client, method, url string, headers map[string][]string, body string) (int, http.Header, string) {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, url, reader)
	require.NoError(t, err)
	for name, values := range headers {
		request.Header[name] = values
	}
	if method == http.MethodPut {
		request.Header.Set("Content-Type", "application/octet-stream")
		request.Header.Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
	}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, response.Header, string(got)
}

func TestAnArchiveIsStoredFoundAndFetchedWithSignedURLsAlone(t *testing.T) {
	server := start(t)
	client := helper(t)
	for _, name := range []string{
		"runner/abc/project/1/key",
		"project/1/with blank",
		"project/1/grün/日本",
		"project/1/a+b&c=d?e#f;g",
		"project/1/100%/%2F",
		"project/1/~tilde!*'()[]@:,$",
		strings.Repeat("deep/", 30) + "end",
	} {
		t.Run(name, func(t *testing.T) {
			s := store(t, server, nil)
			up, err := s.Upload(t.Context(), name, "grün key", time.Minute)
			require.NoError(t, err)
			status, _, _ := send(t, client, http.MethodHead, up.HeadURL, nil, "")
			require.Equal(t, http.StatusNotFound, status, "nothing is stored yet")

			status, _, answer := send(t, client, http.MethodPut, up.URL, up.Headers, "archive of "+name)
			require.Equal(t, http.StatusOK, status, answer)

			down, err := s.Download(t.Context(), name, time.Minute)
			require.NoError(t, err)
			status, headers, _ := send(t, client, http.MethodHead, down.HeadURL, nil, "")
			require.Equal(t, http.StatusOK, status)
			require.NotEmpty(t, headers.Get("Last-Modified"))
			status, _, got := send(t, client, http.MethodGet, down.URL, nil, "")
			require.Equal(t, http.StatusOK, status, got)
			require.Equal(t, "archive of "+name, got)

			metadata, err := server.Metadata(t.Context(), server.Bucket, name)
			require.NoError(t, err)
			require.Equal(t, map[string]string{"cachekey": up.Headers["X-Amz-Meta-Cachekey"][0]}, metadata)
		})
	}
	names, err := server.Objects(t.Context(), server.Bucket)
	require.NoError(t, err)
	require.Len(t, names, 7)
	require.Contains(t, names, "project/1/grün/日本")
}

func TestAPartOfAnArchiveCanBeFetched(t *testing.T) {
	server := start(t)
	client := helper(t)
	s := store(t, server, nil)
	up, err := s.Upload(t.Context(), "key", "", time.Minute)
	require.NoError(t, err)
	status, _, answer := send(t, client, http.MethodPut, up.URL, up.Headers, "0123456789")
	require.Equal(t, http.StatusOK, status, answer)
	down, err := s.Download(t.Context(), "key", time.Minute)
	require.NoError(t, err)
	status, _, got := send(t, client, http.MethodGet, down.URL, map[string][]string{"Range": {"bytes=2-4"}}, "")
	require.Equal(t, http.StatusPartialContent, status)
	require.Equal(t, "234", got)
}

func TestASignedURLDoesNothingButItsPurpose(t *testing.T) {
	server := start(t)
	client := helper(t)
	s := store(t, server, nil)
	up, err := s.Upload(t.Context(), "project/1/key", "key", time.Minute)
	require.NoError(t, err)
	down, err := s.Download(t.Context(), "project/1/key", time.Minute)
	require.NoError(t, err)
	status, _, answer := send(t, client, http.MethodPut, up.URL, up.Headers, "archive")
	require.Equal(t, http.StatusOK, status, answer)

	other := strings.NewReplacer("/project/1/", "/project/2/")
	foreign, err := store(t, server, func(c *config.CacheS3) { c.SecretKey = "another" }).Download(t.Context(), "project/1/key", time.Minute)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		method, url string
		headers     map[string][]string
	}{
		"PUT by the URL for GET":             {http.MethodPut, down.URL, nil},
		"DELETE by the URL for GET":          {http.MethodDelete, down.URL, nil},
		"DELETE by the URL for PUT":          {http.MethodDelete, up.URL, nil},
		"HEAD by the URL for GET":            {http.MethodHead, down.URL, nil},
		"GET by the URL for PUT":             {http.MethodGet, up.URL, nil},
		"GET by the URL for HEAD":            {http.MethodGet, down.HeadURL, nil},
		"GET of another object":              {http.MethodGet, other.Replace(down.URL), nil},
		"PUT of another object":              {http.MethodPut, other.Replace(up.URL), up.Headers},
		"PUT with other metadata":            {http.MethodPut, up.URL, map[string][]string{"X-Amz-Meta-Cachekey": {"forged"}}},
		"GET signed with another secret key": {http.MethodGet, foreign.URL, nil},
		"GET without a signature":            {http.MethodGet, strings.Split(down.URL, "?")[0], nil},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, _ := send(t, client, c.method, c.url, c.headers, "")
			require.Equal(t, http.StatusForbidden, status)
		})
	}
	status, _, got := send(t, client, http.MethodGet, down.URL, nil, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "archive", got)
}

func TestASignedURLExpires(t *testing.T) {
	server := start(t)
	client := helper(t)
	s := store(t, server, nil)
	down, err := s.Download(t.Context(), "key", time.Second)
	require.NoError(t, err)
	up, err := s.Upload(t.Context(), "key", "", time.Second)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		get, _, _ := send(t, client, http.MethodGet, down.URL, nil, "")
		put, _, _ := send(t, client, http.MethodPut, up.URL, up.Headers, "late")
		return get == http.StatusForbidden && put == http.StatusForbidden
	}, 10*time.Second, 200*time.Millisecond)
}

func TestAMissingArchiveIsNotFound(t *testing.T) {
	server := start(t)
	client := helper(t)
	down, err := store(t, server, nil).Download(t.Context(), "no/such", time.Minute)
	require.NoError(t, err)
	for method, url := range map[string]string{http.MethodGet: down.URL, http.MethodHead: down.HeadURL} {
		status, _, _ := send(t, client, method, url, nil, "")
		require.Equal(t, http.StatusNotFound, status, method)
	}
}

func TestABucketIsReachedUnderItsOwnName(t *testing.T) {
	server := start(t)
	_, port, err := net.SplitHostPort(server.Address)
	require.NoError(t, err)
	no := false
	s := store(t, server, func(c *config.CacheS3) {
		c.ServerAddress, c.PathStyle = net.JoinHostPort(s3server.VirtualDomain, port), &no
	})
	client := helper(t)
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Address)
	}
	up, err := s.Upload(t.Context(), "project/1/key", "", time.Minute)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(up.URL, fmt.Sprintf("http://%s.%s:%s/project/1/key?", server.Bucket, s3server.VirtualDomain, port)), up.URL)
	status, _, answer := send(t, client, http.MethodPut, up.URL, up.Headers, "archive")
	require.Equal(t, http.StatusOK, status, answer)
	down, err := s.Download(t.Context(), "project/1/key", time.Minute)
	require.NoError(t, err)
	status, _, got := send(t, client, http.MethodGet, down.URL, nil, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "archive", got)
}

func TestTheLinesForARunnerMakeAStore(t *testing.T) {
	server := start(t)
	text := "[[runners]]\n  name = \"r\"\n  url = \"https://gitlab.example\"\n  token = \"t\"\n  executor = \"docker\"\n  [runners.cache]\n" +
		server.RunnerConfig()
	path := filepath.Join(t.TempDir(), "config.toml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	file, err := config.Load(path)
	require.NoError(t, err)
	s, err := objectstore.New(file.Runners[0].Cache, logrus.New(), nil)
	require.NoError(t, err)
	up, err := s.Upload(t.Context(), "key", "", time.Minute)
	require.NoError(t, err)
	status, _, answer := send(t, helper(t), http.MethodPut, up.URL, up.Headers, "archive")
	require.Equal(t, http.StatusOK, status, answer)
}

func TestALargeArchiveGoesThrough(t *testing.T) {
	server := start(t)
	client := helper(t)
	s := store(t, server, nil)
	const size = 64 << 20
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	up, err := s.Upload(t.Context(), "large", "", time.Minute)
	require.NoError(t, err)
	status, _, answer := send(t, client, http.MethodPut, up.URL, up.Headers, string(body))
	require.Equal(t, http.StatusOK, status, answer)
	down, err := s.Download(t.Context(), "large", time.Minute)
	require.NoError(t, err)
	_, _, got := send(t, client, http.MethodGet, down.URL, nil, "")
	require.Equal(t, size, len(got))
	require.True(t, got == string(body))
}

func TestAServerComesBackWithWhatItKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	client := helper(t)
	put := func(remote plan.Remote) {
		status, _, answer := send(t, client, http.MethodPut, remote.URL, remote.Headers, "archive")
		require.Equal(t, http.StatusOK, status, answer)
	}
	for range 2 {
		server, err := s3server.Start(dir, "127.0.0.1:0")
		require.NoError(t, err)
		s := store(t, server, nil)
		up, err := s.Upload(t.Context(), "key", "", time.Minute)
		require.NoError(t, err)
		put(up)
		names, err := server.Objects(t.Context(), server.Bucket)
		require.NoError(t, err)
		require.Equal(t, []string{"key"}, names)
		require.NoError(t, server.Close())
	}
}
