// Package gittest serves real repositories to the tests of the helper's packages, as GitLab does: over
// HTTP, to those who know the job's token.
package gittest

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Token is the job's token.
const Token = "glcbt-64_secretsecret"

// Server serves the bare repositories of a directory.
type Server struct {
	*httptest.Server
	dir string

	mu       sync.Mutex
	requests []*http.Request
	objects  map[string]string
}

// NewServer starts a server without repositories.
func NewServer(t testing.TB) *Server {
	t.Helper()
	s := newServer(t)
	s.Start()
	return s
}

// newServer makes a server that has yet to be started.
func newServer(t testing.TB) *Server {
	t.Helper()
	execPath, err := exec.Command("git", "--exec-path").Output()
	require.NoError(t, err)
	s := &Server{dir: t.TempDir(), objects: map[string]string{}}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(execPath)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + s.dir, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Clone(r.Context()))
		s.mu.Unlock()
		user, password, _ := r.BasicAuth()
		if user != "gitlab-ci-token" || password != Token {
			w.Header().Set("WWW-Authenticate", `Basic realm="GitLab"`)
			http.Error(w, "HTTP Basic: Access denied", http.StatusUnauthorized)
			return
		}
		if strings.Contains(r.URL.Path, "/info/lfs/") {
			s.serveLFS(w, r)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// Requests returns what was asked so far.
func (s *Server) Requests() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.requests...)
}

// WithCredentials is a URL of the server with the job's token.
func (s *Server) WithCredentials(url string) string {
	return strings.Replace(url, "://", "://gitlab-ci-token:"+Token+"@", 1)
}

// Repository is one that the server serves, with a work tree to make commits in.
type Repository struct {
	// URL has no credentials.
	URL string

	bare, work string
}

// NewRepository makes a repository of a name such as group/project, with one commit.
func (s *Server) NewRepository(t testing.TB, name string, options ...string) *Repository {
	t.Helper()
	r := &Repository{URL: s.URL + "/" + name + ".git", bare: filepath.Join(s.dir, name+".git"), work: t.TempDir()}
	Git(t, "", append([]string{"init", "--quiet", "--bare", "--initial-branch=main", r.bare}, options...)...)
	Git(t, r.bare, "config", "uploadpack.allowFilter", "true")
	Git(t, "", append([]string{"init", "--quiet", "--initial-branch=main", r.work}, options...)...)
	Git(t, r.work, "remote", "add", "origin", r.bare)
	return r
}

// Commit writes files, of whom empty ones are removed, commits them to main and publishes that. It
// returns the commit's id.
func (r *Repository) Commit(t testing.TB, files map[string]string) string {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(r.work, name)
		if content == "" {
			require.NoError(t, os.Remove(file))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
	}
	Git(t, r.work, "add", "--all")
	return r.Publish(t)
}

// AddSubmodule adds a repository as a submodule with the given address and commits it.
func (r *Repository) AddSubmodule(t testing.TB, address, name string, of *Repository) string {
	t.Helper()
	Git(t, r.work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", of.bare, name)
	Git(t, r.work, "config", "--file", ".gitmodules", "submodule."+name+".url", address)
	Git(t, r.work, "add", ".gitmodules")
	return r.Publish(t)
}

// UpdateSubmodule takes the newest commit of a submodule, and commits that.
func (r *Repository) UpdateSubmodule(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(r.work, name)
	Git(t, dir, "-c", "protocol.file.allow=always", "fetch", "--quiet", "origin", "main")
	Git(t, dir, "reset", "--quiet", "--hard", "FETCH_HEAD")
	Git(t, r.work, "add", name)
	return r.Publish(t)
}

// MoveSubmodule makes a submodule one of another repository, and commits that.
func (r *Repository) MoveSubmodule(t testing.TB, address, name string, to *Repository) string {
	t.Helper()
	Git(t, r.work, "config", "--file", ".gitmodules", "submodule."+name+".url", address)
	Git(t, r.work, "add", ".gitmodules")
	Git(t, filepath.Join(r.work, name), "remote", "set-url", "origin", to.bare)
	return r.UpdateSubmodule(t, name)
}

// Publish commits what is staged and returns the commit's id.
func (r *Repository) Publish(t testing.TB) string {
	t.Helper()
	Git(t, r.work, "commit", "--quiet", "--allow-empty", "--message", "change")
	Git(t, r.work, "push", "--quiet", "--no-verify", "--force", "origin", "HEAD:refs/heads/main", "HEAD:refs/pipelines/1")
	return Git(t, r.work, "rev-parse", "HEAD")
}

// Rewind takes back the last commits, so that the next one is no descendant of them.
func (r *Repository) Rewind(t testing.TB) {
	t.Helper()
	Git(t, r.work, "reset", "--quiet", "--hard", "HEAD~1")
}

// Git runs git in dir, without the settings of the machine's user, and returns its output.
func Git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_GLOBAL=/dev/null", "GIT_LFS_SKIP_SMUDGE=1", "GIT_AUTHOR_NAME=Ann", "GIT_AUTHOR_EMAIL=ann@example.com",
		"GIT_COMMITTER_NAME=Ann", "GIT_COMMITTER_EMAIL=ann@example.com",
		"GIT_AUTHOR_DATE=2001-02-03T04:05:06Z", "GIT_COMMITTER_DATE=2001-02-03T04:05:06Z")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "git %v: %s", args, out)
	return strings.TrimSpace(string(out))
}
