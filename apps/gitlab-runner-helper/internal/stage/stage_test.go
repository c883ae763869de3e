package stage_test

import (
	"context"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/gittest"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/stage"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// gitlab keeps one archive.
type gitlab struct {
	archive []byte
	jobs    []network.JobCredentials
}

func (g *gitlab) UploadArtifacts(_ context.Context, job network.JobCredentials, upload network.ArtifactUpload) (network.UploadState, string) {
	g.jobs = append(g.jobs, job)
	if upload.Type == "forbidden" {
		return network.UploadForbidden, ""
	}
	content, err := upload.Open()
	if err != nil {
		return network.UploadFailed, ""
	}
	defer content.Close()
	g.archive, _ = io.ReadAll(content)
	return network.UploadSucceeded, ""
}

func (g *gitlab) DownloadArtifacts(_ context.Context, job network.JobCredentials, w io.Writer, _ bool) network.DownloadState {
	g.jobs = append(g.jobs, job)
	_, _ = w.Write(g.archive)
	return network.DownloadSucceeded
}

// job runs the stages of one job.
type job struct {
	t      *testing.T
	base   string
	server *gittest.Server
	repo   *gittest.Repository
	gitlab *gitlab
	log    *gittest.Log
}

func newJob(t *testing.T) *job {
	j := &job{t: t, base: t.TempDir(), server: gittest.NewServer(t), gitlab: &gitlab{}, log: &gittest.Log{}}
	j.repo = j.server.NewRepository(t, "group/project")
	require.NoError(t, os.Mkdir(j.path("home"), 0o755))
	return j
}

func (j *job) path(name string) string {
	return filepath.Join(j.base, name)
}

// plan has what the plans of all stages have.
func (j *job) plan(name string) *plan.Plan {
	return &plan.Plan{
		Stage: name, ProjectDir: j.path("project"), TmpDir: j.path("project.tmp"),
		Variables: []plan.Variable{
			{Key: "CI_SERVER_TLS_CA_FILE", Value: "certificate", File: true},
			{Key: "TARGET", Value: "out"},
		},
		Server: plan.Server{URL: j.server.URL, CAFile: "CI_SERVER_TLS_CA_FILE"},
	}
}

func (j *job) run(p *plan.Plan) error {
	r := stage.Runner{
		Console: &console.Console{Out: j.log, Err: j.log}, Coordinator: j.gitlab,
		Environment: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + j.path("home")},
	}
	return r.Run(j.t.Context(), p)
}

func (j *job) sources(strategy plan.Strategy, sha string) *plan.Plan {
	p := j.plan("get_sources")
	p.Sources = &plan.Sources{
		Strategy:  strategy,
		RemoteURL: j.repo.URL, RemoteURLWithCredentials: j.server.WithCredentials(j.repo.URL),
		Refspecs: []string{"+refs/pipelines/1:refs/pipelines/1"}, Depth: 20,
		Sha: sha, Ref: "main", Checkout: true, UserAgent: "gitlab-runner",
		CleanFlags: []string{"-ffdx"}, FetchFlags: []string{"--prune", "--quiet"},
		SafeDirectory: true, CleanGitConfig: true, CorrelationID: "01CORRELATION",
		Submodules: plan.Submodules{Strategy: plan.SubmoduleNone},
	}
	return p
}

// golden compares the log so far with a file, and empties it.
func (j *job) golden(name string) {
	j.t.Helper()
	got := strings.NewReplacer(j.base, "$BASE", j.server.URL, "$SERVER", "\x1b", `\e`).Replace(j.log.String())
	j.log.Reset()
	file := filepath.Join("testdata", name+".log")
	if *update {
		require.NoError(j.t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	require.NoError(j.t, err)
	require.Equal(j.t, string(want), got)
}

func TestLogsOfStages(t *testing.T) {
	j := newJob(t)
	sha := j.repo.Commit(t, map[string]string{"readme": "hello\n"})

	p := j.sources(plan.StrategyFetch, sha)
	p.Sources.PreHooks = []string{"echo pre hook; test \"$TARGET\" = out; test \"$(cat $CI_SERVER_TLS_CA_FILE)\" = certificate"}
	require.NoError(t, j.run(p), "%s", j.log)
	j.golden("get_sources_fresh")
	require.NoError(t, j.run(j.sources(plan.StrategyFetch, sha)))
	j.golden("get_sources_again")
	require.NoError(t, os.WriteFile(j.path("project/.git/index"), []byte("nonsense"), 0o644))
	require.NoError(t, j.run(j.sources(plan.StrategyFetch, sha)))
	j.golden("get_sources_damaged")
	p = j.sources(plan.StrategyClone, strings.Repeat("a", 40))
	var exit *process.ExitError
	require.ErrorAs(t, j.run(p), &exit)
	require.Equal(t, 128, exit.Code)
	j.golden("get_sources_without_commit")
	p = j.plan("clear_worktree")
	p.ClearWorktree = &plan.ClearWorktree{}
	require.NoError(t, j.run(p))
	j.golden("clear_worktree")
	require.NoError(t, j.run(j.sources(plan.StrategyEmpty, sha)))
	j.golden("get_sources_empty")

	require.NoError(t, os.MkdirAll(j.path("project/out"), 0o755))
	require.NoError(t, os.WriteFile(j.path("project/out/a"), []byte("x"), 0o644))
	key := plan.CacheKey{Name: "main", File: j.path("cache/main/cache.zip")}
	p = j.plan("archive_cache")
	p.SaveCaches = []plan.CacheSave{
		{Key: key, Paths: []string{"$TARGET"}}, {Notice: "Not uploading cache other due to policy"},
		{Key: plan.CacheKey{Name: "none", File: j.path("cache/none/cache.zip")}, Paths: []string{"none"}},
	}
	require.NoError(t, j.run(p))
	j.golden("archive_cache")
	p = j.plan("restore_cache")
	p.RestoreCaches = []plan.CacheRestore{{Keys: []plan.CacheKey{{Name: "none", File: j.path("cache/none/cache.zip")}, key}}}
	require.NoError(t, j.run(p))
	j.golden("restore_cache")

	p = j.plan("upload_artifacts_on_success")
	p.UploadArtifacts = []plan.ArtifactUpload{
		{JobID: 1, Token: "secret", Name: "$TARGET", Paths: []string{"out/", "none"}, Exclude: []string{"**/*.log"}},
		{JobID: 1, Token: "secret", Type: "forbidden", Paths: []string{"out/"}, Format: "gzip"},
		{JobID: 1, Token: "secret", Paths: []string{"none"}},
	}
	require.EqualError(t, j.run(p), "uploading artifacts: GitLab refused them")
	j.golden("upload_artifacts")
	require.Equal(t, j.path("project.tmp/CI_SERVER_TLS_CA_FILE"), j.gitlab.jobs[0].TLSCAFile)
	p = j.plan("download_artifacts")
	p.DownloadArtifacts = []plan.ArtifactDownload{{Name: "build", JobID: 1, Token: "secret"}, {Name: "test", JobID: 2, Token: "secret"}}
	j.gitlab.archive = zipped(t)
	require.NoError(t, j.run(p))
	j.golden("download_artifacts")

	p = j.plan("cleanup_file_variables")
	p.Cleanup = &plan.Cleanup{Strategy: plan.StrategyFetch, CleanGitConfig: true}
	require.NoError(t, j.run(p))
	j.golden("cleanup_file_variables")
	left, err := os.ReadDir(j.path("project.tmp"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// zipped is an empty zip archive.
func zipped(t *testing.T) []byte {
	t.Helper()
	return append([]byte("PK\x05\x06"), make([]byte, 18)...)
}

func TestVariablesAreHandedOnToLaterStages(t *testing.T) {
	j := newJob(t)
	sha := j.repo.Commit(t, map[string]string{"readme": "hello\n"})
	require.NoError(t, os.MkdirAll(j.path("project.tmp"), 0o755))
	require.NoError(t, os.WriteFile(j.path("project.tmp/gitlab_runner_env"), []byte("FROM_EARLIER_JOB=1\n"), 0o644))
	p := j.sources(plan.StrategyFetch, sha)
	p.Sources.PreHooks = []string{
		"test -z \"$FROM_EARLIER_JOB\"; printf 'TARGET=elsewhere\\nWITH=a=b c\\nnot a variable\\n1X=bad\\n' >> $GITLAB_ENV",
		"test \"$TARGET\" = out",
	}
	require.NoError(t, j.run(p), "%s", j.log)
	require.NoError(t, os.WriteFile(j.path("project/elsewhere"), nil, 0o644))
	p = j.plan("archive_cache")
	p.SaveCaches = []plan.CacheSave{{Key: plan.CacheKey{Name: "main", File: j.path("cache/cache.zip")}, Paths: []string{"$TARGET", "$WITH"}}}
	require.NoError(t, j.run(p))
	require.Contains(t, j.log.String(), "elsewhere: found 1 matching")
	require.Contains(t, j.log.String(), "a=b c: no matching files")
	require.Contains(t, j.log.String(), "WARNING: 1 lines of GITLAB_ENV are not of the form NAME=value")
}

func TestHostilePlansAndFilesAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change  func(j *job, p *plan.Plan)
		message string
	}{
		"relative directory":  {func(_ *job, p *plan.Plan) { p.ProjectDir = "project" }, "project_dir is \"project\""},
		"root directory":      {func(_ *job, p *plan.Plan) { p.TmpDir = "/" }, "tmp_dir is \"/\""},
		"no work":             {func(_ *job, p *plan.Plan) { p.ClearWorktree = nil }, "has no work"},
		"NUL byte in a value": {func(_ *job, p *plan.Plan) { p.Variables = []plan.Variable{{Key: "A", Value: "a\x00b"}} }, "variable A cannot be exported: its value has a NUL byte"},
		"name with =":         {func(_ *job, p *plan.Plan) { p.Variables = []plan.Variable{{Key: "A=B"}} }, "cannot be exported"},
		"file outside":        {func(_ *job, p *plan.Plan) { p.Variables = []plan.Variable{{Key: "../A", File: true}} }, "not a file's name"},
		"GITLAB_ENV is no file": {func(j *job, _ *plan.Plan) {
			require.NoError(j.t, os.Mkdir(j.path("project.tmp/gitlab_runner_env"), 0o755))
		}, "not a regular file"},
		"GITLAB_ENV leads out": {func(j *job, _ *plan.Plan) {
			require.NoError(j.t, os.Symlink("/etc/passwd", j.path("project.tmp/gitlab_runner_env")))
		}, "escapes"},
		"GITLAB_ENV is too large": {func(j *job, _ *plan.Plan) {
			require.NoError(j.t, os.WriteFile(j.path("project.tmp/gitlab_runner_env"), make([]byte, 2<<20), 0o644))
		}, "is larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t)
			require.NoError(t, os.MkdirAll(j.path("project.tmp"), 0o755))
			p := j.plan("clear_worktree")
			p.ClearWorktree = &plan.ClearWorktree{}
			c.change(j, p)
			require.ErrorContains(t, j.run(p), c.message)
		})
	}
}

func TestFilesOfVariablesReplaceLinks(t *testing.T) {
	j := newJob(t)
	victim := j.path("victim")
	require.NoError(t, os.WriteFile(victim, []byte("untouched"), 0o644))
	require.NoError(t, os.MkdirAll(j.path("project.tmp"), 0o755))
	require.NoError(t, os.Symlink(victim, j.path("project.tmp/CI_SERVER_TLS_CA_FILE")))
	p := j.plan("get_sources")
	p.Sources = &plan.Sources{Strategy: plan.StrategyNone}
	require.NoError(t, j.run(p))
	content, err := os.ReadFile(victim)
	require.NoError(t, err)
	require.Equal(t, "untouched", string(content))
	content, err = os.ReadFile(j.path("project.tmp/CI_SERVER_TLS_CA_FILE"))
	require.NoError(t, err)
	require.Equal(t, "certificate", string(content))
}
