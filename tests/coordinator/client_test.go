package coordinator_test

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start gives a coordinator that is closed with the test.
func start(t *testing.T, cfg coordinator.Config) *coordinator.Coordinator {
	t.Helper()
	c, err := coordinator.Start(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// client speaks the runner's side of the protocol by hand.
type client struct {
	t          *testing.T
	c          *coordinator.Coordinator
	ctx        context.Context
	http       *http.Client
	token      string
	systemID   string
	lastUpdate string
	features   map[string]any
}

func newClient(t *testing.T, c *coordinator.Coordinator) *client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	features := map[string]any{}
	for _, key := range strings.Fields(`variables image services artifacts cache fallback_cache_keys shared
		upload_multiple_artifacts upload_raw_artifacts session terminal refspecs masking proxy raw_variables
		artifacts_exclude multi_build_steps trace_reset trace_checksum trace_size vault_secrets cancelable
		return_exit_code service_variables service_multiple_aliases image_executor_opts service_executor_opts
		cancel_gracefully native_steps_integration two_phase_job_commit job_inputs`) {
		features[key] = true
	}
	return &client{
		t: t, c: c, ctx: t.Context(), token: c.RunnerToken(), systemID: "s_0123456789ab", features: features,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
}

func (cl *client) info() map[string]any {
	return map[string]any{
		"name": "gitlab-runner", "version": "19.4.0", "platform": "linux", "architecture": "amd64",
		"executor": "docker-autoscaler", "shell": "bash", "features": cl.features, "config": map[string]any{"gpus": ""},
	}
}

type response struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (cl *client) send(method, url string, header map[string]string, body []byte) response {
	cl.t.Helper()
	request, err := http.NewRequestWithContext(cl.ctx, method, url, bytes.NewReader(body))
	require.NoError(cl.t, err)
	request.Header.Set("User-Agent", "gitlab-runner 19.4.0 (main; go1.26.0; linux/amd64)")
	request.Header.Set("X-Request-Id", strings.Repeat("0a", 16))
	for key, value := range header {
		if value == "" {
			request.Header.Del(key)
			continue
		}
		request.Header.Set(key, value)
	}
	answer, err := cl.http.Do(request)
	if err != nil {
		return response{err: err}
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	return response{status: answer.StatusCode, header: answer.Header, body: content, err: err}
}

func (cl *client) api(method, path string, header map[string]string, body any) response {
	cl.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(cl.t, err)
	all := map[string]string{"Content-Type": "application/json", "Accept": "application/json"}
	for key, value := range header {
		all[key] = value
	}
	return cl.send(method, cl.c.URL()+"/api/v4/"+path, all, encoded)
}

type payload struct {
	ID        int64
	Token     string
	Variables []struct {
		Key   string
		Value *string
	}
	GitInfo struct {
		RepoURL  string `json:"repo_url"`
		SHA      string
		RefType  string `json:"ref_type"`
		Refspecs []string
		Depth    int
	} `json:"git_info"`
	Steps []struct {
		Name   string
		Script []string
	}
	Image        *struct{ Name string }
	Dependencies []struct {
		ID            int64
		Token         string
		ArtifactsFile *struct {
			Filename string
			Size     int64
		} `json:"artifacts_file"`
	}
}

func (p payload) variable(key string) string {
	value := ""
	for _, v := range p.Variables {
		if v.Key == key && v.Value != nil {
			value = *v.Value
		}
	}
	return value
}

// request asks for a job and follows the queue version.
func (cl *client) request() (int, payload) {
	cl.t.Helper()
	body := map[string]any{"info": cl.info(), "token": cl.token, "system_id": cl.systemID}
	if cl.lastUpdate != "" {
		body["last_update"] = cl.lastUpdate
	}
	answer := cl.api("POST", "jobs/request", map[string]string{"RUNNER-TOKEN": cl.token}, body)
	if answer.err != nil {
		return 0, payload{}
	}
	if version := answer.header.Get("X-GitLab-Last-Update"); version != "" {
		cl.lastUpdate = version
	}
	var decoded payload
	if answer.status == http.StatusCreated {
		require.NoError(cl.t, json.Unmarshal(answer.body, &decoded))
	}
	return answer.status, decoded
}

// take asks for a job that must be there.
func (cl *client) take() payload {
	cl.t.Helper()
	status, job := cl.request()
	require.Equal(cl.t, http.StatusCreated, status)
	return job
}

func (cl *client) update(job payload, state string, extra map[string]any) response {
	cl.t.Helper()
	body := map[string]any{"info": cl.info(), "token": job.Token, "state": state}
	for key, value := range extra {
		body[key] = value
	}
	return cl.api("PUT", "jobs/"+strconv.FormatInt(job.ID, 10), map[string]string{"JOB-TOKEN": job.Token}, body)
}

// takeRunning asks for a job and confirms it.
func (cl *client) takeRunning() payload {
	cl.t.Helper()
	job := cl.take()
	require.Equal(cl.t, http.StatusOK, cl.update(job, "running", nil).status)
	return job
}

func (cl *client) patch(job payload, start int, chunk string) response {
	cl.t.Helper()
	return cl.patchRaw(job, fmt.Sprintf("%d-%d", start, start+len(chunk)-1), chunk)
}

func (cl *client) patchRaw(job payload, contentRange, chunk string) response {
	cl.t.Helper()
	header := map[string]string{"JOB-TOKEN": job.Token, "Content-Type": "text/plain", "Content-Range": contentRange}
	return cl.send("PATCH", fmt.Sprintf("%s/api/v4/jobs/%d/trace?debug_trace=false", cl.c.URL(), job.ID), header, []byte(chunk))
}

// output is what a final update says of the trace.
func output(trace string) map[string]any {
	sum := fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE([]byte(trace)))
	told := map[string]any{"checksum": sum}
	if trace != "" {
		told["bytesize"] = len(trace)
	}
	return map[string]any{"checksum": sum, "output": told}
}

func failed(trace, reason string, exitCode int) map[string]any {
	body := output(trace)
	body["failure_reason"], body["exit_code"] = reason, exitCode
	return body
}

func (cl *client) upload(url, token, query, filename string, content []byte) response {
	cl.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", filename)
	require.NoError(cl.t, err)
	_, err = part.Write(content)
	require.NoError(cl.t, err)
	require.NoError(cl.t, form.Close())
	return cl.send("POST", url+"?"+query, map[string]string{"JOB-TOKEN": token, "Content-Type": form.FormDataContentType()}, body.Bytes())
}

func artifactsURL(c *coordinator.Coordinator, id int64) string {
	return fmt.Sprintf("%s/api/v4/jobs/%d/artifacts", c.URL(), id)
}

func zipOf(t *testing.T, name, content string) []byte {
	t.Helper()
	var buffer bytes.Buffer
	archive := zip.NewWriter(&buffer)
	file, err := archive.Create(name)
	require.NoError(t, err)
	_, err = file.Write([]byte(content))
	require.NoError(t, err)
	require.NoError(t, archive.Close())
	return buffer.Bytes()
}

// git runs git without any configuration of the machine and without asking anybody for a password.
func git(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@example.com")
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// bareRepository makes a repository with three commits on main and the tag v1 on the first.
func bareRepository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	work, bare := filepath.Join(dir, "work"), filepath.Join(dir, "bare.git")
	must := func(args ...string) {
		output, err := git(t, dir, args...)
		require.NoError(t, err, output)
	}
	must("init", "-q", "-b", "main", work)
	for number := range 3 {
		require.NoError(t, os.WriteFile(filepath.Join(work, "number"), []byte(strconv.Itoa(number)), 0o644))
		must("-C", work, "add", ".")
		must("-C", work, "commit", "-q", "-m", fmt.Sprintf("number %d", number))
		if number == 0 {
			must("-C", work, "tag", "v1")
		}
	}
	must("clone", "-q", "--bare", work, bare)
	return bare
}

// enqueue adds a job without sources.
func enqueue(t *testing.T, c *coordinator.Coordinator, spec coordinator.JobSpec) *coordinator.Job {
	t.Helper()
	job, err := c.Enqueue(spec)
	require.NoError(t, err)
	return job
}

// breaches are the rules of the violations noted so far.
func breaches(c *coordinator.Coordinator) []string {
	rules := []string{}
	for _, violation := range c.Violations() {
		rule, _, _ := strings.Cut(violation, ":")
		rules = append(rules, rule)
	}
	return rules
}

const soon = 10 * time.Second
