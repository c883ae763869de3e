package coordinator

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	gitUser       = "gitlab-ci-token"
	refTypeBranch = "branch"
	refTypeTag    = "tag"

	// emptyProject is the project of jobs on a coordinator without any repository.
	emptyProject   = "root/empty"
	emptyProjectID = 1

	// maxGitRequest bounds a negotiation, which has to be held in memory when it comes chunked.
	maxGitRequest = 64 << 20
	maxGitErrors  = 4 << 10
)

// repository is a project with sources.
type repository struct {
	id      int64
	path    string // as in URLs, without .git
	dir     string // absolute
	git     string
	readers []string
	refs    []string // pipeline refs put into it; guarded by c.mu
}

// commit is what a payload tells about a commit.
type commit struct {
	sha, parent, refType, defaultBranch string
	title, message, author, time        string
}

var (
	projectPathForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$`)
	refNameForm     = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_./-]*$`)
)

// AddRepository serves the bare repository in dir as project path, such as "group/project". Jobs of the project may
// fetch it, and those of the projects named as readers, as GitLab's job token allowlist has it for submodules. While
// jobs are enqueued, refs/pipelines/<id> are put into the repository; Close takes them out again. It fails for a
// malformed or used path and when dir is no bare repository.
func (c *Coordinator) AddRepository(path, dir string, readers ...string) error {
	if !projectPathForm.MatchString(path) {
		return fmt.Errorf("add repository: path %q is not of the form group/project", path)
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("add repository %s: %w", path, err)
	}
	repo := &repository{path: path, dir: absolute, git: c.gitPath, readers: readers}
	bare, err := repo.run(c.ctx, nil, "rev-parse", "--is-bare-repository")
	if err != nil {
		return fmt.Errorf("add repository %s: %w", path, err)
	}
	if strings.TrimSpace(bare) != "true" {
		return fmt.Errorf("add repository %s: %s is not a bare repository", path, dir)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.repositories[path] != nil {
		return fmt.Errorf("add repository %s: there is one already", path)
	}
	repo.id = int64(len(c.repositories)) + emptyProjectID + 1
	c.repositories[path] = repo
	return nil
}

// repository finds a project; the empty path means the only one, and gives nil when there is none at all.
func (c *Coordinator) repository(path string) (*repository, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if path != "" {
		if repo := c.repositories[path]; repo != nil {
			return repo, nil
		}
		return nil, fmt.Errorf("no repository %q was added", path)
	}
	if len(c.repositories) > 1 {
		return nil, errors.New("there are several repositories, name one as Project")
	}
	for _, repo := range c.repositories {
		return repo, nil
	}
	return nil, nil
}

// run runs git in the repository and gives its output.
func (r *repository) run(ctx context.Context, input []byte, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, r.git, append([]string{"--git-dir=" + r.dir}, args...)...)
	cmd.Env = append(os.Environ(), gitSettings...)
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(output), nil
}

// gitSettings keep the machine's own configuration out, accept repositories of other owners, and allow what GitLab
// allows: fetching any commit and partial clones.
var gitSettings = []string{
	"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_COUNT=3",
	"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	"GIT_CONFIG_KEY_1=uploadpack.allowAnySHA1InWant", "GIT_CONFIG_VALUE_1=true",
	"GIT_CONFIG_KEY_2=uploadpack.allowFilter", "GIT_CONFIG_VALUE_2=true",
}

// resolve finds a branch or tag and reads its commit; the empty name means the default branch.
func (r *repository) resolve(ctx context.Context, ref string) (string, commit, error) {
	head, err := r.run(ctx, nil, "symbolic-ref", "--short", "HEAD")
	if err != nil {
		return "", commit{}, fmt.Errorf("find default branch of %s: %w", r.path, err)
	}
	found := commit{defaultBranch: strings.TrimSpace(head), refType: refTypeBranch}
	if ref == "" {
		ref = found.defaultBranch
	}
	if !refNameForm.MatchString(ref) {
		return "", commit{}, fmt.Errorf("ref %q of %s is no name of a branch or tag", ref, r.path)
	}
	full := "refs/heads/" + ref
	if _, err := r.run(ctx, nil, "show-ref", "--verify", full); err != nil {
		full, found.refType = "refs/tags/"+ref, refTypeTag
	}
	text, err := r.run(ctx, nil, "log", "-1", "--format=%H%x00%P%x00%s%x00%B%x00%an <%ae>%x00%cI", full)
	if err != nil {
		return "", commit{}, fmt.Errorf("find branch or tag %q of %s: %w", ref, r.path, err)
	}
	const fields = 6
	parts := strings.Split(strings.TrimSuffix(text, "\n"), "\x00")
	if len(parts) != fields {
		return "", commit{}, fmt.Errorf("read commit of %q of %s: unexpected output", ref, r.path)
	}
	found.sha, found.title, found.message, found.author, found.time = parts[0], parts[2], strings.TrimSpace(parts[3]), parts[4], parts[5]
	found.parent, _, _ = strings.Cut(parts[1], " ")
	if found.parent == "" {
		found.parent = zeroSHA
	}
	return ref, found, nil
}

// setPipelineRef keeps the commit fetchable under the pipeline's own name, as GitLab does.
func (c *Coordinator) setPipelineRef(repo *repository, name, sha string) error {
	if _, err := repo.run(c.ctx, nil, "update-ref", name, sha); err != nil {
		return fmt.Errorf("set %s in %s: %w", name, repo.path, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	repo.refs = append(repo.refs, name)
	return nil
}

// dropPipelineRefs leaves the repositories as they were found; those that are gone by now are none of its business.
func (c *Coordinator) dropPipelineRefs() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, repo := range c.repositories {
		if _, err := os.Stat(repo.dir); err != nil || len(repo.refs) == 0 {
			continue
		}
		input := "delete " + strings.Join(repo.refs, "\ndelete ") + "\n"
		if _, err := repo.run(context.Background(), []byte(input), "update-ref", "--stdin"); err != nil {
			errs = append(errs, fmt.Errorf("remove pipeline refs from %s: %w", repo.path, err))
		}
		repo.refs = nil
	}
	return errors.Join(errs...)
}

// serveGit answers what is no call of the Jobs API: fetches over smart HTTP. Pushing is not allowed.
func (c *Coordinator) serveGit(x *exchange) {
	path, service, found := strings.Cut(strings.TrimPrefix(x.r.URL.Path, "/"), ".git/")
	if !found {
		refuse(x.w, http.StatusNotFound)
		return
	}
	user, password, given := x.r.BasicAuth()
	c.mu.Lock()
	repo := c.repositories[path]
	allowed := given && c.mayFetch(x, repo, path, user, password)
	c.mu.Unlock()
	switch {
	case !allowed:
		x.w.Header().Set("WWW-Authenticate", `Basic realm="GitLab"`)
		http.Error(x.w, "HTTP Basic: Access denied", http.StatusUnauthorized)
	case service == "git-receive-pack" || x.r.URL.Query().Get("service") == "git-receive-pack":
		http.Error(x.w, "You are not allowed to upload code.", http.StatusForbidden)
	case service == "info/refs" && x.r.Method == http.MethodGet, service == "git-upload-pack" && x.r.Method == http.MethodPost:
		c.uploadPack(x, repo, service)
	default:
		refuse(x.w, http.StatusNotFound)
	}
}

// mayFetch checks the job token against the jobs that run now. The caller holds c.mu.
func (c *Coordinator) mayFetch(x *exchange, repo *repository, path, user, token string) bool {
	var owner *Job
	for _, job := range c.jobOrder {
		if job.token != "" && subtle.ConstantTimeCompare([]byte(job.token), []byte(token)) == 1 {
			owner = job
			x.jobID = job.id
		}
	}
	problem := ""
	switch {
	case user != gitUser:
		problem = fmt.Sprintf("user %q, want %s", clip(user), gitUser)
	case owner == nil:
		problem = "a token that is no job's"
	case owner.state != StateRunning && owner.state != StateCanceling:
		// A job that was stopped from here may well be in the middle of a fetch.
		if owner.stopped {
			return false
		}
		problem = "the token of a job that is " + string(owner.state)
	case repo == nil || path != owner.pipeline.project && !slices.Contains(repo.readers, owner.pipeline.project):
		problem = "the token of a job of " + owner.pipeline.project
	default:
		return true
	}
	c.violate(RuleGitToken, x.jobID, "fetch of %q with %s", clip(x.r.URL.Path), problem)
	return false
}

// gitHeaders are the headers that git itself needs to see; credentials are not among them.
var gitHeaders = []string{"Accept", "Content-Type", "Content-Encoding", "User-Agent"}

// uploadPack lets git answer.
func (c *Coordinator) uploadPack(x *exchange, repo *repository, service string) {
	request := x.r.Clone(x.r.Context())
	request.Header = http.Header{}
	for _, name := range gitHeaders {
		if values := x.r.Header.Values(name); len(values) > 0 {
			request.Header[name] = values
		}
	}
	if len(request.TransferEncoding) > 0 {
		// CGI needs to know the length in advance.
		body, err := io.ReadAll(io.LimitReader(x.r.Body, maxGitRequest+1))
		if err != nil || len(body) > maxGitRequest {
			refuse(x.w, http.StatusRequestEntityTooLarge)
			return
		}
		request.TransferEncoding, request.Body, request.ContentLength = nil, io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	request.URL.Path = "/" + filepath.Base(repo.dir) + "/" + service
	environment := append([]string{
		"GIT_PROJECT_ROOT=" + filepath.ToSlash(filepath.Dir(repo.dir)), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=" + gitUser,
	}, gitSettings...)
	if protocol := x.r.Header.Get("Git-Protocol"); gitProtocolForm.MatchString(protocol) {
		environment = append(environment, "GIT_PROTOCOL="+protocol)
	}
	stderr := &cappedBuffer{room: maxGitErrors}
	handler := &cgi.Handler{
		Path: repo.git, Args: []string{"http-backend"}, Dir: repo.dir, Env: environment, Stderr: stderr,
		Logger: c.cgiLogger(),
	}
	handler.ServeHTTP(x.w, request)
	if stderr.Len() > 0 {
		c.log.Warn("git complained", "repository", repo.path, "service", service, "stderr", stderr.String())
	}
}

var gitProtocolForm = regexp.MustCompile(`^[a-z0-9=:]{1,64}$`)

func (c *Coordinator) cgiLogger() *log.Logger {
	return slog.NewLogLogger(c.log.Handler(), slog.LevelWarn)
}

// cappedBuffer keeps the beginning of what is written to it.
type cappedBuffer struct {
	bytes.Buffer
	room int
}

func (b *cappedBuffer) Write(data []byte) (int, error) {
	kept := data[:min(len(data), b.room)]
	b.room -= len(kept)
	b.Buffer.Write(kept)
	return len(data), nil
}
