package sample_test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/sample"
)

// plainRunner speaks just enough of the protocol to run jobs of the sample in a local shell.
type plainRunner struct {
	t      *testing.T
	c      *coordinator.Coordinator
	client *http.Client
	cache  string
}

func (r *plainRunner) call(method, path string, header map[string]string, body []byte) (int, []byte) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, r.c.URL()+"/api/v4/"+path, bytes.NewReader(body))
	require.NoError(r.t, err)
	request.Header.Set("User-Agent", "gitlab-runner 19.4.0 (main; go1.26.0; linux/amd64)")
	request.Header.Set("X-Request-Id", strings.Repeat("0a", 16))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	for key, value := range header {
		request.Header.Set(key, value)
	}
	answer, err := r.client.Do(request)
	require.NoError(r.t, err)
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	require.NoError(r.t, err)
	return answer.StatusCode, content
}

func (r *plainRunner) callJSON(method, path string, header map[string]string, body any) (int, []byte) {
	r.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(r.t, err)
	return r.call(method, path, header, encoded)
}

func info() map[string]any {
	features := map[string]bool{}
	for _, key := range strings.Fields(`variables image services artifacts cache fallback_cache_keys shared
		upload_multiple_artifacts upload_raw_artifacts session terminal refspecs masking proxy raw_variables
		artifacts_exclude multi_build_steps trace_reset trace_checksum trace_size vault_secrets cancelable
		return_exit_code service_variables service_multiple_aliases image_executor_opts service_executor_opts
		cancel_gracefully native_steps_integration two_phase_job_commit job_inputs`) {
		features[key] = true
	}
	return map[string]any{"version": "19.4.0", "platform": "linux", "architecture": "amd64", "features": features, "config": map[string]any{}}
}

type job struct {
	ID        int64
	Token     string
	Variables []struct {
		Key    string
		Value  string
		File   bool
		Masked bool
	}
	GitInfo struct {
		RepoURL string `json:"repo_url"`
		SHA     string
	} `json:"git_info"`
	Steps []struct{ Script []string }
	Image struct{ Name string }
	Cache []struct{ Paths []string }

	Artifacts []struct {
		Paths  []string
		When   string
		Type   string `json:"artifact_type"`
		Expiry string `json:"expire_in"`
	}
	Dependencies []struct {
		ID    int64
		Name  string
		Token string
	}
}

// runOne runs the next job and reports whether there was one.
func (r *plainRunner) runOne() bool {
	r.t.Helper()
	token := r.c.RunnerToken()
	status, body := r.callJSON("POST", "jobs/request", map[string]string{"RUNNER-TOKEN": token},
		map[string]any{"info": info(), "token": token, "system_id": "r_plainplain00"})
	if status == http.StatusNoContent {
		return false
	}
	require.Equal(r.t, http.StatusCreated, status, string(body))
	var j job
	require.NoError(r.t, json.Unmarshal(body, &j))
	path, header := fmt.Sprintf("jobs/%d", j.ID), map[string]string{"JOB-TOKEN": j.Token}
	status, _ = r.callJSON("PUT", path, header, map[string]any{"info": info(), "token": j.Token, "state": "running"})
	require.Equal(r.t, http.StatusOK, status)

	dir := filepath.Join(r.t.TempDir(), "sources")
	gitOutput(r.t, "clone", "-q", j.GitInfo.RepoURL, dir)
	var log bytes.Buffer
	for _, dependency := range j.Dependencies {
		fmt.Fprintf(&log, "Downloading artifacts for %s (%d)...\n", dependency.Name, dependency.ID)
		status, archive := r.call("GET", fmt.Sprintf("jobs/%d/artifacts", dependency.ID), map[string]string{"JOB-TOKEN": dependency.Token}, nil)
		require.Equal(r.t, http.StatusOK, status)
		unpack(r.t, archive, dir)
	}
	if len(j.Cache) > 0 {
		require.NoError(r.t, os.CopyFS(dir, os.DirFS(r.cache)))
	}
	code := r.script(j, dir, &log)
	if len(j.Cache) > 0 {
		_ = os.CopyFS(filepath.Join(r.cache, ".cache"), os.DirFS(filepath.Join(dir, ".cache")))
	}
	outcome := map[bool]string{true: "on_success", false: "on_failure"}[code == 0]
	for _, artifact := range j.Artifacts {
		if artifact.When == outcome {
			r.upload(j, dir, artifact.Paths[0], strings.ReplaceAll(artifact.Expiry, " ", "+"))
		}
	}
	result := map[string]any{"info": info(), "token": j.Token, "state": "success"}
	if code == 0 {
		log.WriteString("Job succeeded\n")
	} else {
		fmt.Fprintf(&log, "ERROR: Job failed: exit code %d\n", code)
		result["state"], result["failure_reason"], result["exit_code"] = "failed", "script_failure", code
	}
	text := log.String()
	for _, v := range j.Variables {
		if v.Masked {
			text = strings.ReplaceAll(text, v.Value, "[MASKED]")
		}
	}
	status, _ = r.call("PATCH", path+"/trace?debug_trace=false", map[string]string{
		"JOB-TOKEN": j.Token, "Content-Type": "text/plain", "Content-Range": fmt.Sprintf("0-%d", len(text)-1),
	}, []byte(text))
	require.Equal(r.t, http.StatusAccepted, status)
	sum := fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE([]byte(text)))
	result["checksum"], result["output"] = sum, map[string]any{"checksum": sum, "bytesize": len(text)}
	status, _ = r.callJSON("PUT", path, header, result)
	require.Equal(r.t, http.StatusOK, status)
	return true
}

// script runs the steps of a job and returns the exit code of the first.
func (r *plainRunner) script(j job, dir string, log *bytes.Buffer) int {
	shell := "sh"
	environment := os.Environ()
	if j.Image.Name == sample.DebianImage {
		shell = "bash"
	}
	if j.Image.Name == sample.EntrypointImage {
		environment = append(environment, "FROM_ENTRYPOINT=yes")
		log.WriteString("entrypoint: to standard output\n")
	}
	for _, v := range j.Variables {
		value := v.Value
		if v.File {
			value = filepath.Join(filepath.Dir(dir), v.Key)
			require.NoError(r.t, os.WriteFile(value, []byte(v.Value), 0o600))
		}
		environment = append(environment, v.Key+"="+value)
	}
	code := 0
	for number, step := range j.Steps {
		text := "set -e\n"
		for _, line := range step.Script {
			text += "cat <<'NOTICE'\n$ " + line + "\nNOTICE\n" + line + "\n"
		}
		cmd := exec.CommandContext(r.t.Context(), shell, "-c", text)
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
		cmd.Env = append(environment, "CI_JOB_STATUS="+map[bool]string{true: "success", false: "failed"}[code == 0])
		_ = cmd.Run()
		if number == 0 {
			code = cmd.ProcessState.ExitCode()
		}
	}
	return code
}

func (r *plainRunner) upload(j job, dir, path, expiry string) {
	var archive, body bytes.Buffer
	writer := zip.NewWriter(&archive)
	names, err := filepath.Glob(filepath.Join(dir, path, "*"))
	require.NoError(r.t, err)
	for _, name := range names {
		content, err := os.ReadFile(name)
		require.NoError(r.t, err)
		file, err := writer.Create(filepath.ToSlash(filepath.Join(path, filepath.Base(name))))
		require.NoError(r.t, err)
		_, err = file.Write(content)
		require.NoError(r.t, err)
	}
	require.NoError(r.t, writer.Close())
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "artifacts.zip")
	require.NoError(r.t, err)
	_, err = part.Write(archive.Bytes())
	require.NoError(r.t, err)
	require.NoError(r.t, form.Close())
	query := "artifact_type=archive&artifact_format=zip"
	if expiry != "" {
		query += "&expire_in=" + expiry
	}
	status, answer := r.call("POST", fmt.Sprintf("jobs/%d/artifacts?%s", j.ID, query),
		map[string]string{"JOB-TOKEN": j.Token, "Content-Type": form.FormDataContentType()}, body.Bytes())
	require.Equal(r.t, http.StatusCreated, status, string(answer))
}

func unpack(t *testing.T, data []byte, dir string) {
	t.Helper()
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	require.NoError(t, err)
	for _, file := range archive.File {
		target := filepath.Join(dir, file.Name)
		require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o755))
		reader, err := file.Open()
		require.NoError(t, err)
		content, err := io.ReadAll(reader)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(target, content, 0o755))
	}
}
