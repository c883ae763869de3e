package localrun

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// gitUser is the name that comes with a job's token.
const gitUser = "gitlab-ci-token"

// server answers what the helpers of jobs ask of GitLab: fetches of the working tree, and artifacts.
type server struct {
	tree  *Tree
	dir   string
	token string
	log   logrus.FieldLogger
	// limit is that of one upload, in bytes.
	limit int64

	mu     sync.Mutex
	nextID int
	kept   map[int64]map[string]artifact
}

// maxArtifact keeps a job from filling the disk.
const maxArtifact = 10 << 30

var errTooLarge = errors.New("the artifacts are larger than the 10 GiB that are kept")

// artifact is one upload of a job.
type artifact struct {
	path string
	size int64
}

func newServer(tree *Tree, dir, token string, log logrus.FieldLogger) *server {
	return &server{tree: tree, dir: dir, token: token, log: log, limit: maxArtifact, kept: map[int64]map[string]artifact{}}
}

// artifact returns what a job uploaded under a type.
func (s *server) artifact(job int64, kind string) (artifact, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.kept[job][kind]
	return found, ok
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v4/jobs/{id}/artifacts", s.upload)
	mux.HandleFunc("GET /api/v4/jobs/{id}/artifacts", s.download)
	repository := "/" + s.tree.Project + ".git/"
	mux.HandleFunc("GET "+repository+"info/refs", s.refs)
	mux.HandleFunc("POST "+repository+"git-upload-pack", s.pack)
	return mux
}

func (s *server) isToken(given string) bool {
	return subtle.ConstantTimeCompare([]byte(given), []byte(s.token)) == 1
}

func (s *server) mayFetch(w http.ResponseWriter, r *http.Request) bool {
	user, password, _ := r.BasicAuth()
	if user == gitUser && s.isToken(password) {
		return true
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="gitlab-runner exec"`)
	http.Error(w, "the token is not that of a job", http.StatusUnauthorized)
	return false
}

// refs begins a fetch.
func (s *server) refs(w http.ResponseWriter, r *http.Request) {
	if !s.mayFetch(w, r) {
		return
	}
	if r.URL.Query().Get("service") != "git-upload-pack" {
		http.Error(w, "the working tree can only be read", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
	w.Header().Set("Cache-Control", "no-cache")
	const service = "# service=git-upload-pack\n"
	_, _ = fmt.Fprintf(w, "%04x%s0000", len(service)+4, service)
	s.uploadPack(w, r, nil, "--advertise-refs")
}

const maxNegotiation = 64 << 20

// pack ends a fetch.
func (s *server) pack(w http.ResponseWriter, r *http.Request) {
	if !s.mayFetch(w, r) {
		return
	}
	body := io.Reader(http.MaxBytesReader(w, r.Body, maxNegotiation))
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, "the request is not what gzip makes", http.StatusBadRequest)
			return
		}
		body = io.LimitReader(unpacked, maxNegotiation)
	}
	w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
	s.uploadPack(w, r, body)
}

var gitProtocol = regexp.MustCompile(`^[a-z0-9=:]{1,64}$`)

func (s *server) uploadPack(w http.ResponseWriter, r *http.Request, body io.Reader, options ...string) {
	args := append([]string{"-c", "uploadpack.allowAnySHA1InWant=true", "-c", "uploadpack.allowFilter=true", "upload-pack", "--stateless-rpc"}, options...)
	cmd := exec.CommandContext(r.Context(), "git", append(args, s.tree.store)...)
	cmd.Env = os.Environ()
	if protocol := r.Header.Get("Git-Protocol"); gitProtocol.MatchString(protocol) {
		cmd.Env = append(cmd.Env, "GIT_PROTOCOL="+protocol)
	}
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = body, w, &stderr
	if err := cmd.Run(); err != nil && r.Context().Err() == nil {
		s.log.WithError(err).Warningf("git upload-pack failed: %s", strings.TrimSpace(stderr.String()))
	}
}

// job is the id in the address of a request, if its token is right.
func (s *server) job(w http.ResponseWriter, r *http.Request) (int64, bool) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || !s.isToken(r.Header.Get("JOB-TOKEN")) {
		http.Error(w, `{"message":"403 Forbidden"}`, http.StatusForbidden)
		return 0, false
	}
	return id, true
}

func (s *server) upload(w http.ResponseWriter, r *http.Request) {
	job, ok := s.job(w, r)
	if !ok {
		return
	}
	kind := r.URL.Query().Get("artifact_type")
	if kind == "" {
		kind = "archive"
	}
	received, err := s.receive(r)
	if errors.Is(err, errTooLarge) {
		s.log.WithError(err).Warning("receiving artifacts failed")
		http.Error(w, `{"message":"413 Request Entity Too Large"}`, http.StatusRequestEntityTooLarge)
		return
	}
	if err != nil {
		s.log.WithError(err).Warning("receiving artifacts failed")
		http.Error(w, `{"message":"400 Bad Request"}`, http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	if s.kept[job] == nil {
		s.kept[job] = map[string]artifact{}
	}
	s.kept[job][kind] = received
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, "201")
}

func (s *server) receive(r *http.Request) (artifact, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return artifact{}, fmt.Errorf("reading the form: %w", err)
	}
	for {
		part, err := form.NextPart()
		if err != nil {
			return artifact{}, fmt.Errorf("reading the form: %w", err)
		}
		if part.FormName() != "file" {
			continue
		}
		s.mu.Lock()
		s.nextID++
		place := filepath.Join(s.dir, strconv.Itoa(s.nextID))
		s.mu.Unlock()
		file, err := os.OpenFile(place, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return artifact{}, err
		}
		size, err := io.Copy(file, io.LimitReader(part, s.limit+1))
		if err == nil && size > s.limit {
			err = errTooLarge
		}
		if err = errors.Join(err, file.Close()); err != nil {
			err = errors.Join(err, os.Remove(place))
		}
		return artifact{path: place, size: size}, err
	}
}

func (s *server) download(w http.ResponseWriter, r *http.Request) {
	job, ok := s.job(w, r)
	if !ok {
		return
	}
	found, ok := s.artifact(job, "archive")
	if !ok {
		http.Error(w, `{"message":"404 Not Found"}`, http.StatusNotFound)
		return
	}
	file, err := os.Open(found.path)
	if err != nil {
		http.Error(w, `{"message":"404 Not Found"}`, http.StatusNotFound)
		return
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Length", strconv.FormatInt(found.size, 10))
	_, _ = io.Copy(w, file)
}

const (
	// maxDotenv and maxDotenvVariables are the bounds of GitLab for a dotenv report.
	maxDotenv          = 5 << 10
	maxDotenvVariables = 150
)

var dotenvKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// dotenv reads the variables that a job hands on.
func (s *server) dotenv(job int64) ([]spec.Variable, error) {
	found, ok := s.artifact(job, "dotenv")
	if !ok {
		return nil, nil
	}
	file, err := os.Open(found.path)
	if err != nil {
		return nil, fmt.Errorf("reading the dotenv report: %w", err)
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("reading the dotenv report: %w", err)
	}
	return readDotenv(unpacked)
}

func readDotenv(r io.Reader) ([]spec.Variable, error) {
	limited := &io.LimitedReader{R: r, N: maxDotenv + 1}
	var out []spec.Variable
	scanner := bufio.NewScanner(limited)
	for scanner.Scan() {
		line := strings.TrimRight(scanner.Text(), "\r")
		if strings.TrimSpace(line) == "" {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if key = strings.TrimSpace(key); !ok || !dotenvKey.MatchString(key) {
			return nil, fmt.Errorf("reading the dotenv report: line %d is not of the form KEY=value", len(out)+1)
		}
		value = strings.TrimSpace(value)
		for _, quote := range []string{`"`, "'"} {
			if len(value) >= 2 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
				value = value[1 : len(value)-1]
				break
			}
		}
		out = append(out, spec.Variable{Key: key, Value: value, Public: true, Raw: true})
	}
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("reading the dotenv report: it is larger than %d KiB", maxDotenv>>10)
	case len(out) > maxDotenvVariables:
		return nil, fmt.Errorf("reading the dotenv report: it has more than %d variables", maxDotenvVariables)
	}
	return out, scanner.Err()
}
