package main

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// artifactServer is a GitLab that takes artifacts and gives them back, after it refused some requests.
type artifactServer struct {
	*httptest.Server
	refuse   atomic.Int64
	requests atomic.Int64
	archive  []byte
}

func newArtifactServer(t *testing.T) *artifactServer {
	s := &artifactServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.refuse.Add(-1) >= 0 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.Method == http.MethodGet {
			_, _ = w.Write(s.archive)
			return
		}
		file, _, err := r.FormFile("file")
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		s.archive, _ = io.ReadAll(file)
		w.WriteHeader(http.StatusCreated)
	}))
	t.Cleanup(s.Close)
	return s
}

func TestUploaderTellsTheOriginOfArtifactsIfAsked(t *testing.T) {
	server := newArtifactServer(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "report"), []byte("x"), 0o644))
	args := []string{
		"artifacts-uploader", "--url", server.URL, "--id", "7", "--token", "t", "--path", "report", "--verbose", "--name", "result", "--artifact-format", "zip",
		"--generate-artifacts-metadata", "--runner-id", "3", "--runner-name", "r", "--executor-name", "docker-autoscaler", "--job-name", "build it",
		"--repo-url", "https://gitlab.example.com/grp/app", "--repo-digest", "c0ffee", "--ended-at", "2026-01-02T04:05:05+01:00",
		"--schema-version", "v1", "--metadata-parameter", "CI,X", "--metadata-parameter", "HOME",
	}
	run := func(more ...string) (int, string) {
		cmd, out := helper(t, append(args, more...)...)
		cmd.Dir = dir
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode(), out.String()
	}
	code, said := run("--started-at", "2026-01-02T03:04:05Z")
	require.Zero(t, code, said)
	require.Contains(t, said, "\nreport\n", "--verbose lists the files")

	archive, err := zip.NewReader(bytes.NewReader(server.archive), int64(len(server.archive)))
	require.NoError(t, err)
	f, err := archive.Open("result-metadata.json")
	require.NoError(t, err)
	text, err := io.ReadAll(f)
	require.NoError(t, err)
	for _, part := range []string{
		`"name": "report"`, `"CI,X": ""`, `"HOME": ""`, `"entryPoint": "build it"`, `"executor": "docker-autoscaler"`, `"sha256": "c0ffee"`,
		`"id": "https://gitlab.example.com/grp/app/-/runners/3"`, `"startedOn": "2026-01-02T03:04:05Z"`, `"finishedOn": "2026-01-02T03:05:05Z"`,
	} {
		require.Contains(t, string(text), part)
	}

	for flag, c := range map[string]struct{ value, says string }{
		"--started-at":     {"yesterday", `--started-at "yesterday" is not a time like 2026-01-02T15:04:05Z`},
		"--schema-version": {"v9", `--schema-version "v9" is not known: use v1`},
	} {
		code, said := run(flag, c.value)
		require.Equal(t, 1, code)
		require.Contains(t, said, c.says)
	}
}

func TestTransfersAreRepeatedAsOftenAsAsked(t *testing.T) {
	for _, command := range []string{"artifacts-uploader", "artifacts-downloader"} {
		for repeats, code := range map[string]int{"0": 1, "1": 1, "3": 0} {
			t.Run(command+" "+repeats, func(t *testing.T) {
				server := newArtifactServer(t)
				server.refuse.Store(2)
				var archive bytes.Buffer
				require.NoError(t, zip.NewWriter(&archive).Close())
				server.archive = archive.Bytes()
				args := []string{command, "--url", server.URL, "--id", "7", "--token", "t", "--retry", repeats, "--retry-time", "1ms"}
				if command == "artifacts-uploader" {
					args = append(args, "--path", ".")
				}
				cmd, out := helper(t, args...)
				cmd.Dir = t.TempDir()
				require.NoError(t, os.WriteFile(filepath.Join(cmd.Dir, "report"), []byte("x"), 0o644))
				_ = cmd.Run()
				require.Equal(t, code, cmd.ProcessState.ExitCode(), out)
				require.Equal(t, map[string]int64{"0": 1, "1": 2, "3": 3}[repeats], server.requests.Load())
			})
		}
	}
}
