package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/cache"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/files"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/retry"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// signature is what makes a URL valid.
const signature = "X-Amz-Signature=topsecret"

// store is an object store with signed URLs.
type store struct {
	*httptest.Server
	mu       sync.Mutex
	objects  map[string]object
	requests []string
	// refuse is answered instead, while there are some.
	refuse []int
}

type object struct {
	content []byte
	stored  time.Time
	header  http.Header
}

func newStore(t *testing.T) *store {
	s := &store{objects: map[string]object{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *store) serve(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method)
	if len(s.refuse) > 0 {
		status := s.refuse[0]
		s.refuse = s.refuse[1:]
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "<Error><Code>SlowDown</Code><Message>Please wait</Message></Error>")
		return
	}
	if r.URL.RawQuery != signature {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>No</Message></Error>")
		return
	}
	if r.Method == http.MethodPut {
		s.objects[r.URL.Path] = object{body, time.Now(), r.Header.Clone()}
		return
	}
	o, ok := s.objects[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", o.stored, bytes.NewReader(o.content))
}

func (s *store) asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.requests
	s.requests = nil
	return asked
}

func (s *store) remote(name string) *plan.Remote {
	url := s.URL + "/bucket/" + name + "?" + signature
	return &plan.Remote{URL: url, HeadURL: url, Headers: map[string][]string{"x-amz-meta-cachekey": {name}}}
}

// machine has a project directory and local caches.
type machine struct {
	t     *testing.T
	dir   string
	local string
	out   *bytes.Buffer
}

func newMachine(t *testing.T) *machine {
	base := t.TempDir()
	m := &machine{t: t, dir: filepath.Join(base, "project"), local: filepath.Join(base, "cache"), out: &bytes.Buffer{}}
	require.NoError(t, os.Mkdir(m.dir, 0o755))
	return m
}

func (m *machine) cache() *cache.Cache {
	root, err := os.OpenRoot(m.dir)
	require.NoError(m.t, err)
	m.t.Cleanup(func() { _ = root.Close() })
	c := &console.Console{Out: m.out, Err: m.out}
	return &cache.Cache{Console: c, Root: root, Retry: retry.Policy{Repeats: 2, Wait: time.Millisecond}, Collector: &files.Collector{Console: c, Dir: m.dir, Root: root, Lookup: func(string) string { return "" }}}
}

func (m *machine) key(name string, remote *plan.Remote) plan.CacheKey {
	return plan.CacheKey{Name: name, File: filepath.Join(m.local, name, "cache.zip"), Remote: remote}
}

// save does so and returns what it said.
func (m *machine) save(s plan.CacheSave) string {
	m.t.Helper()
	m.out.Reset()
	require.NoError(m.t, m.cache().Save(m.t.Context(), s))
	return plain(m.out.String())
}

func (m *machine) restore(r plan.CacheRestore) string {
	m.t.Helper()
	m.out.Reset()
	require.NoError(m.t, m.cache().Restore(m.t.Context(), r))
	return plain(m.out.String())
}

func (m *machine) write(name, content string) {
	m.t.Helper()
	file := filepath.Join(m.dir, name)
	require.NoError(m.t, os.MkdirAll(filepath.Dir(file), 0o755))
	require.NoError(m.t, os.WriteFile(file, []byte(content), 0o644))
}

func (m *machine) read(name string) string {
	m.t.Helper()
	content, err := os.ReadFile(filepath.Join(m.dir, name))
	require.NoError(m.t, err)
	return string(content)
}

// empty removes the project's files, as a new job finds it.
func (m *machine) empty() {
	m.t.Helper()
	require.NoError(m.t, os.RemoveAll(m.dir))
	require.NoError(m.t, os.Mkdir(m.dir, 0o755))
}

func plain(text string) string {
	for _, code := range []string{"\x1b[32;1m", "\x1b[31;1m", "\x1b[0;33m", "\x1b[0;m"} {
		text = strings.ReplaceAll(text, code, "")
	}
	return text
}

func TestLocalCacheComesBack(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"zip", "tarzstd", "zipzstd", ""} {
		m := newMachine(t)
		m.write("modules/a", "one")
		require.NoError(t, os.Symlink("a", filepath.Join(m.dir, "modules", "link")))
		save := plan.CacheSave{Key: m.key("main", nil), Paths: []string{"modules/"}, Format: format}
		require.Equal(t, "Creating cache main...\n"+
			"modules/: found 3 matching artifact files and directories\n"+
			"No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.\n"+
			"Created cache\n", m.save(save))
		require.FileExists(t, filepath.Join(m.local, "main", "cache.zip"))

		m.empty()
		restore := plan.CacheRestore{Keys: []plan.CacheKey{m.key("absent", nil), m.key("main", nil)}}
		const local = "No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.\n"
		require.Equal(t, "Checking cache for absent...\n"+local+
			"WARNING: cache file does not exist\nFailed to extract cache\n"+
			"Checking cache for main...\n"+local+"Successfully extracted cache\n", m.restore(restore))
		require.Equal(t, "one", m.read("modules/link"))

		require.Contains(t, m.save(save), "Archive is up to date!", "what was restored has not changed")
		require.NoError(t, os.Remove(filepath.Join(m.dir, "modules", "link")))
		require.NotContains(t, m.save(save), "up to date", "a file less is a change")
		m.write("modules/b", "new")
		require.NotContains(t, m.save(save), "up to date")
	}
}

func TestDistributedCacheIsSharedByMachines(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	first, second := newMachine(t), newMachine(t)
	save := func(m *machine) string {
		return m.save(plan.CacheSave{Key: m.key("main", s.remote("main")), Paths: []string{"modules"}})
	}
	restore := func(m *machine) string {
		m.empty()
		return m.restore(plan.CacheRestore{Keys: []plan.CacheKey{m.key("main", s.remote("main"))}})
	}
	first.write("modules/a", "one")
	require.Contains(t, save(first), "Uploading cache.zip to "+s.URL+"/bucket/main\nCreated cache\n")
	stored := s.objects["/bucket/main"]
	require.Equal(t, "main", stored.header.Get("X-Amz-Meta-Cachekey"))
	require.Equal(t, "application/octet-stream", stored.header.Get("Content-Type"))
	require.NotEmpty(t, stored.header.Get("Last-Modified"))
	require.Equal(t, []string{"PUT"}, s.asked())

	require.Contains(t, restore(first), "cache.zip is up to date", "the machine that made it has it")
	require.Contains(t, restore(second), "Downloading cache.zip from "+s.URL+"/bucket/main\nSuccessfully extracted cache\n")
	require.Equal(t, "one", second.read("modules/a"))
	require.Contains(t, restore(second), "cache.zip is up to date")
	require.Contains(t, save(second), "Archive is up to date!")
	require.Equal(t, []string{"GET", "GET", "GET", "HEAD"}, s.asked())

	delete(s.objects, "/bucket/main")
	require.Contains(t, save(second), "Uploading", "what the store lost is sent again")
	o := s.objects["/bucket/main"]
	o.stored = o.stored.Add(time.Hour)
	s.objects["/bucket/main"] = o
	require.NotContains(t, restore(first), "up to date")
}

func TestMissingObjectIsAMiss(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := newMachine(t)
	said := m.restore(plan.CacheRestore{Keys: []plan.CacheKey{m.key("main", s.remote("main")), m.key("other", s.remote("other"))}})
	require.Equal(t, 2, strings.Count(said, "WARNING: downloading the cache: file does not exist\nFailed to extract cache\n"), said)
	require.Equal(t, []string{"GET", "GET"}, s.asked())
}

func TestServerErrorsAreRetriedAndOthersNot(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := newMachine(t)
	m.write("modules/a", "one")
	save := plan.CacheSave{Key: m.key("main", s.remote("main")), Paths: []string{"modules"}}
	s.refuse = []int{503}
	require.Contains(t, m.save(save), "Created cache")
	require.Equal(t, []string{"PUT", "PUT"}, s.asked())

	s.objects = map[string]object{}
	s.refuse = []int{404, 503, 500, 502}
	require.Contains(t, m.save(save), "WARNING: uploading the cache: the object store answered \"502 Bad Gateway\": SlowDown: Please wait\nFailed to create cache\n")
	require.Equal(t, []string{"HEAD", "PUT", "PUT", "PUT"}, s.asked())

	save.Key.Remote.URL = s.URL + "/bucket/main?wrong"
	save.Key.Remote.HeadURL = ""
	require.Contains(t, m.save(save), `answered "403 Forbidden": AccessDenied: No`)
	require.Equal(t, []string{"PUT"}, s.asked())
}

func TestNoSignatureIsShown(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("a", "x")
	dead := httptest.NewServer(http.NotFoundHandler())
	dead.Close()
	for _, url := range []string{dead.URL + "/x?" + signature, "http://[broken/?" + signature, "://" + signature} {
		remote := &plan.Remote{URL: url}
		said := m.restore(plan.CacheRestore{Keys: []plan.CacheKey{m.key("main", remote)}})
		said += m.save(plan.CacheSave{Key: m.key("main", remote), Paths: []string{"a"}})
		require.NotContains(t, said, "topsecret")
		require.Contains(t, said, "Failed to extract cache")
		require.Contains(t, said, "Failed to create cache")
	}
}

func TestLargeArchivesStayHere(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	m := newMachine(t)
	m.write("a", "content")
	said := m.save(plan.CacheSave{Key: m.key("main", s.remote("main")), Paths: []string{"a"}, MaxUploadBytes: 10})
	require.Contains(t, said, "is larger than the maximum of 10")
	require.Contains(t, said, "Created cache")
	require.Empty(t, s.asked())
}

func TestNothingToCacheIsNoFailure(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	said := m.save(plan.CacheSave{Key: m.key("main", nil), Paths: []string{"none"}})
	require.Contains(t, said, "WARNING: No files to cache.\nCreated cache\n")
	require.NoDirExists(t, m.local)
}

func TestNoticesAndWarningsAreShown(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	require.Equal(t, "w1\nw2\nNot downloading cache x due to policy\n",
		m.restore(plan.CacheRestore{Warnings: []string{"w1", "w2"}, Notice: "Not downloading cache x due to policy"}))
	require.Equal(t, "Not uploading cache x due to policy\n", m.save(plan.CacheSave{Notice: "Not uploading cache x due to policy"}))
}

func TestFailedExtractionIsCleanedUpIfAskedFor(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("modules/partial", "x")
	m.write("kept", "x")
	key := m.key("main", nil)
	require.NoError(t, os.MkdirAll(filepath.Dir(key.File), 0o700))
	require.NoError(t, os.WriteFile(key.File, []byte("not an archive"), 0o600))
	r := plan.CacheRestore{Keys: []plan.CacheKey{key}, Paths: []string{"mod*", "../project/kept", "."}}
	require.Contains(t, m.restore(r), "Failed to extract cache")
	require.FileExists(t, filepath.Join(m.dir, "modules", "partial"))
	r.CleanFailed = true
	m.restore(r)
	require.NoDirExists(t, filepath.Join(m.dir, "modules"))
	require.FileExists(t, filepath.Join(m.dir, "kept"))
}

func TestGivingUpIsAnError(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	m := newMachine(t)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("given up"))
	defer cancel()
	err := m.cache().Restore(ctx, plan.CacheRestore{Keys: []plan.CacheKey{m.key("main", &plan.Remote{URL: server.URL})}})
	require.EqualError(t, err, "given up")
}

func TestInterruptedDownloadLeavesNothing(t *testing.T) {
	t.Parallel()
	var count int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		count++
		w.Header().Set("Content-Length", "1000")
		_, _ = fmt.Fprint(w, "half of it")
	}))
	defer server.Close()
	m := newMachine(t)
	key := m.key("main", &plan.Remote{URL: server.URL})
	require.Contains(t, m.restore(plan.CacheRestore{Keys: []plan.CacheKey{key}}), "unexpected EOF")
	require.Equal(t, 3, count)
	left, err := os.ReadDir(filepath.Dir(key.File))
	require.NoError(t, err)
	require.Empty(t, left)
}
