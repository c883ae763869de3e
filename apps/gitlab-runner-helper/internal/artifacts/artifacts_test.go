package artifacts_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/artifacts"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/files"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/retry"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// coordinator answers with the given states, one after the other, and remembers what it was asked.
type coordinator struct {
	uploads   []network.UploadState
	downloads []network.DownloadState
	// archive is what uploads send and downloads get.
	archive []byte
	// unread leaves the content of uploads that fail unread.
	unread bool

	jobs   []network.JobCredentials
	upload network.ArtifactUpload
	direct []bool
	times  []time.Time
}

func (c *coordinator) UploadArtifacts(_ context.Context, job network.JobCredentials, upload network.ArtifactUpload) (network.UploadState, string) {
	c.jobs, c.upload, c.times = append(c.jobs, job), upload, append(c.times, time.Now())
	state := c.uploads[0]
	c.uploads = c.uploads[1:]
	content, err := upload.Open()
	if err != nil {
		return network.UploadFailed, ""
	}
	if state == network.UploadSucceeded || !c.unread {
		c.archive, err = io.ReadAll(content)
	}
	if closeErr := content.Close(); err != nil || closeErr != nil {
		return network.UploadFailed, ""
	}
	if state == network.UploadRedirected {
		return state, "https://elsewhere.example.com"
	}
	return state, ""
}

func (c *coordinator) DownloadArtifacts(_ context.Context, job network.JobCredentials, w io.Writer, direct bool) network.DownloadState {
	c.jobs, c.direct = append(c.jobs, job), append(c.direct, direct)
	state := c.downloads[0]
	c.downloads = c.downloads[1:]
	content := c.archive
	if state != network.DownloadSucceeded {
		content = append(append([]byte(nil), content...), "and more"...)
	}
	if _, err := w.Write(content); err != nil {
		return network.DownloadFailed
	}
	return state
}

func transfer(t *testing.T, c *coordinator, out *bytes.Buffer, names ...string) *artifacts.Transfer {
	t.Helper()
	base := t.TempDir()
	w, err := workspace.New(filepath.Join(base, "project"), filepath.Join(base, "project.tmp"))
	require.NoError(t, err)
	require.NoError(t, w.MakeProject())
	for _, name := range names {
		file := filepath.Join(w.ProjectDir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte("content of "+name), 0o644))
	}
	root, err := os.OpenRoot(w.ProjectDir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	console := &console.Console{Out: out, Err: out}
	lookup := map[string]string{"CI_JOB_NAME": "build it", "GROUP": "a/b"}
	return &artifacts.Transfer{
		Console: console, Workspace: w, Root: root, Coordinator: c, Retry: retry.Default(),
		Collector: &files.Collector{Console: console, Dir: w.ProjectDir, Root: root, Lookup: func(k string) string { return lookup[k] }},
		Server:    network.JobCredentials{URL: "https://gitlab.example.com", TLSCAFile: "/ca"},
	}
}

func TestUploadedArtifactsCanBeDownloaded(t *testing.T) {
	for format, file := range map[string]string{
		"": "build it.zip", "zip": "build it.zip", "zipzstd": "build it.zip", "gzip": "build it.gz", "tarzstd": "build it.tar.zst",
	} {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			gitlab := &coordinator{uploads: []network.UploadState{network.UploadSucceeded}, downloads: []network.DownloadState{network.DownloadSucceeded}}
			require.NoError(t, transfer(t, gitlab, &out, "out/a", "out/b", "other").Upload(t.Context(), plan.ArtifactUpload{
				JobID: 7, Token: "secret", Name: "$CI_JOB_NAME", Paths: []string{"out/"}, Exclude: []string{"out/b"},
				Format: format, Type: "archive", ExpireIn: "1 week", TimeoutSeconds: 90, ResponseHeaderTimeoutSeconds: 30, CompressionLevel: "fastest",
			}))
			require.Equal(t, network.JobCredentials{ID: 7, Token: "secret", URL: "https://gitlab.example.com", TLSCAFile: "/ca"}, gitlab.jobs[0])
			gitlab.upload.Open = nil
			require.Equal(t, network.ArtifactUpload{
				BaseName: file, ExpireIn: "1 week", Format: format, Type: "archive",
				Timeout: 90 * time.Second, ResponseHeaderTimeout: 30 * time.Second,
			}, gitlab.upload)

			other := transfer(t, gitlab, &out)
			require.NoError(t, other.Download(t.Context(), plan.ArtifactDownload{Name: "build", JobID: 7, Token: "secret"}))
			content, err := os.ReadFile(filepath.Join(other.Workspace.ProjectDir, "out", "a"))
			require.NoError(t, err)
			require.Equal(t, "content of out/a", string(content))
			require.NoFileExists(t, filepath.Join(other.Workspace.ProjectDir, "out", "b"))
			left, err := os.ReadDir(other.Workspace.TmpDir)
			require.NoError(t, err)
			require.Empty(t, left)
			require.Contains(t, out.String(), "\x1b[32;1mDownloading artifacts for build (7)...\x1b[0;m\n")
		})
	}
}

func TestTheOriginOfArtifactsIsTold(t *testing.T) {
	var out bytes.Buffer
	gitlab := &coordinator{uploads: []network.UploadState{network.UploadSucceeded}}
	started := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	moved := transfer(t, gitlab, &out, "out/a", "other")
	require.NoError(t, moved.Upload(t.Context(), plan.ArtifactUpload{
		JobID: 7, Token: "secret", Name: "$CI_JOB_NAME", Paths: []string{"out/"}, Format: "zip",
		Provenance: &plan.Provenance{
			RunnerID: 3, RunnerName: "r", RunnerRevision: "abcd", Executor: "docker", JobName: "build it",
			RepoURL: "https://gitlab.example.com/grp/app", RepoDigest: "c0ffee",
			StartedAt: started, EndedAt: started.Add(time.Minute), Parameters: []string{"SECRET"},
		},
	}))
	packed, err := zip.NewReader(bytes.NewReader(gitlab.archive), int64(len(gitlab.archive)))
	require.NoError(t, err)
	file, err := packed.Open("build it-metadata.json")
	require.NoError(t, err)
	text, err := io.ReadAll(file)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	sum := sha256.Sum256([]byte("content of out/a"))
	require.JSONEq(t, `{
		"_type": "https://in-toto.io/Statement/v0.1",
		"predicateType": "https://slsa.dev/provenance/v1",
		"subject": [{"name": "out/a", "digest": {"sha256": "`+hex.EncodeToString(sum[:])+`"}}],
		"predicate": {
			"buildDefinition": {
				"buildType": "https://gitlab.com/gitlab-org/gitlab-runner/-/blob/abcd/PROVENANCE.md",
				"externalParameters": {"SECRET": "", "entryPoint": "build it", "source": "https://gitlab.example.com/grp/app"},
				"internalParameters": {"architecture": "`+runtime.GOARCH+`", "executor": "docker", "job": "7", "name": "r"},
				"resolvedDependencies": [{"uri": "https://gitlab.example.com/grp/app", "digest": {"sha256": "c0ffee"}}]
			},
			"runDetails": {
				"builder": {"id": "https://gitlab.example.com/grp/app/-/runners/3", "version": {"gitlab-runner": "abcd"}},
				"metadata": {"invocationID": "7", "startedOn": "2026-01-02T03:04:05Z", "finishedOn": "2026-01-02T03:05:05Z"}
			}
		}
	}`, string(text))
	require.NoFileExists(t, filepath.Join(moved.Workspace.ProjectDir, "build it-metadata.json"), "it is in the archive only")
}

func TestNamesOfArchives(t *testing.T) {
	for name, want := range map[string]string{
		"": "artifacts.zip", "$NOTHING": "default.zip", "$GROUP": "b.zip", "..": "default.zip", "/": "default.zip", "${": "${.zip",
	} {
		var out bytes.Buffer
		gitlab := &coordinator{uploads: []network.UploadState{network.UploadSucceeded}}
		require.NoError(t, transfer(t, gitlab, &out, "a").Upload(t.Context(), plan.ArtifactUpload{Name: name, Paths: []string{"a"}}))
		require.Equal(t, want, gitlab.upload.BaseName)
	}
}

func TestRawArtifactIsTheFile(t *testing.T) {
	var out bytes.Buffer
	gitlab := &coordinator{uploads: []network.UploadState{network.UploadSucceeded}}
	upload := plan.ArtifactUpload{Name: "gl-sast-report.json", Paths: []string{"report"}, Format: "raw"}
	require.NoError(t, transfer(t, gitlab, &out, "report").Upload(t.Context(), upload))
	require.Equal(t, "gl-sast-report.json", gitlab.upload.BaseName)
	require.Equal(t, "content of report", string(gitlab.archive))

	gitlab = &coordinator{uploads: []network.UploadState{network.UploadFailed}}
	upload.Paths = []string{"a", "b"}
	require.EqualError(t, transfer(t, gitlab, &out, "a", "b").Upload(t.Context(), upload),
		"packing artifacts: the raw format takes exactly one regular file, not 2")
}

func TestNoFilesIsNoFailure(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, transfer(t, &coordinator{}, &out).Upload(t.Context(), plan.ArtifactUpload{Paths: []string{"none"}}))
	require.Contains(t, out.String(), "ERROR: No files to upload")
}

func repeat[T any](state T, count int) []T {
	var all []T
	for range count {
		all = append(all, state)
	}
	return all
}

func TestUploadsAreRepeatedAsTheirOutcomeAllows(t *testing.T) {
	for name, c := range map[string]struct {
		states  []network.UploadState
		tries   int
		took    time.Duration
		failure string
	}{
		"failed":               {repeat(network.UploadFailed, 9), 3, 3 * time.Second, "uploading artifacts: failed 3 times"},
		"unavailable":          {repeat(network.UploadServiceUnavailable, 9), 6, 17 * time.Second, "uploading artifacts: failed 6 times"},
		"then well":            {[]network.UploadState{network.UploadFailed, network.UploadServiceUnavailable, network.UploadSucceeded}, 3, 3 * time.Second, ""},
		"forbidden":            {[]network.UploadState{network.UploadForbidden}, 1, 0, "uploading artifacts: GitLab refused them"},
		"too large":            {[]network.UploadState{network.UploadTooLarge}, 1, 0, "uploading artifacts: the archive is larger than GitLab allows"},
		"redirected":           {[]network.UploadState{network.UploadRedirected, network.UploadSucceeded}, 2, time.Second, ""},
		"redirected in circle": {repeat(network.UploadRedirected, 9), 3, 3 * time.Second, "uploading artifacts: failed 3 times"},
	} {
		for _, unread := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var out bytes.Buffer
					gitlab := &coordinator{uploads: c.states, unread: unread}
					start := time.Now()
					err := transfer(t, gitlab, &out, "a").Upload(t.Context(), plan.ArtifactUpload{Paths: []string{"a"}})
					if c.failure == "" {
						require.NoError(t, err)
					} else {
						require.EqualError(t, err, c.failure)
					}
					require.Len(t, gitlab.jobs, c.tries)
					require.Equal(t, c.took, time.Since(start))
					if c.states[0] == network.UploadRedirected {
						require.Equal(t, "https://elsewhere.example.com", gitlab.jobs[1].URL)
					}
				})
			})
		}
	}
}

func TestDownloadsAreRepeatedAsTheirOutcomeAllows(t *testing.T) {
	for name, c := range map[string]struct {
		states  []network.DownloadState
		direct  []bool
		failure string
	}{
		"failed":       {repeat(network.DownloadFailed, 9), []bool{true, false, false}, "downloading the artifacts of build: failed 3 times"},
		"then well":    {[]network.DownloadState{network.DownloadFailed, network.DownloadSucceeded}, []bool{true, false}, ""},
		"forbidden":    {[]network.DownloadState{network.DownloadForbidden}, []bool{true}, "GitLab does not allow it"},
		"unauthorized": {[]network.DownloadState{network.DownloadUnauthorized}, []bool{true}, "does not know the job's token"},
		"not found":    {[]network.DownloadState{network.DownloadNotFound}, []bool{true}, "there are none"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				gitlab := &coordinator{uploads: []network.UploadState{network.UploadSucceeded}, downloads: c.states}
				there := transfer(t, gitlab, &out, "a")
				require.NoError(t, there.Upload(t.Context(), plan.ArtifactUpload{Paths: []string{"a"}}))
				err := transfer(t, gitlab, &out).Download(t.Context(), plan.ArtifactDownload{Name: "build", DirectDownload: true})
				if c.failure == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, c.failure)
				}
				require.Equal(t, c.direct, gitlab.direct)
			})
		})
	}
}

func TestDamagedDownloadIsAnError(t *testing.T) {
	var out bytes.Buffer
	gitlab := &coordinator{archive: []byte("<html>"), downloads: []network.DownloadState{network.DownloadSucceeded}}
	err := transfer(t, gitlab, &out).Download(t.Context(), plan.ArtifactDownload{Name: "build"})
	require.ErrorContains(t, err, "unpacking the artifacts of build")
}

func TestGivingUpEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeoutCause(t.Context(), 1500*time.Millisecond, errors.New("given up"))
		defer cancel()
		gitlab := &coordinator{uploads: repeat(network.UploadFailed, 9)}
		err := transfer(t, gitlab, &out, "a").Upload(ctx, plan.ArtifactUpload{Paths: []string{"a"}})
		require.EqualError(t, err, "given up")
		require.Len(t, gitlab.jobs, 2)
	})
}

func TestPlansThatMakeNoSenseAreRefused(t *testing.T) {
	var out bytes.Buffer
	err := transfer(t, &coordinator{}, &out, "a").Upload(t.Context(), plan.ArtifactUpload{Paths: []string{"a"}, Format: "rar"})
	require.EqualError(t, err, `uploading artifacts: unknown archive format "rar"; use one of zip, zipzstd, tarzstd, gzip, raw`)
}

func TestAFileOfTheUsersIsNotTakenForTheStatement(t *testing.T) {
	var out bytes.Buffer
	gitlab := &coordinator{uploads: []network.UploadState{network.UploadSucceeded}}
	moved := transfer(t, gitlab, &out, "a", "artifacts-metadata.json")
	require.NoError(t, moved.Upload(t.Context(), plan.ArtifactUpload{
		JobID: 7, Token: "secret", Paths: []string{"*"}, Format: "zip", Provenance: &plan.Provenance{RunnerID: 3},
	}))
	require.Contains(t, out.String(), "The artifacts are uploaded without metadata")
	content, err := os.ReadFile(filepath.Join(moved.Workspace.ProjectDir, "artifacts-metadata.json"))
	require.NoError(t, err)
	require.Equal(t, "content of artifacts-metadata.json", string(content))
	packed, err := zip.NewReader(bytes.NewReader(gitlab.archive), int64(len(gitlab.archive)))
	require.NoError(t, err)
	require.Len(t, packed.File, 2)
}
