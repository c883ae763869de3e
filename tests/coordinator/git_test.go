package coordinator_test

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

func TestRunningJobFetchesItsSources(t *testing.T) {
	c := start(t, coordinator.Config{})
	bare := bareRepository(t)
	require.NoError(t, c.AddRepository("group/app", bare))
	cl := newClient(t, c)
	_, err := c.Enqueue(coordinator.JobSpec{Variables: []coordinator.Variable{{Key: "GIT_DEPTH", Value: "2"}}})
	require.NoError(t, err)
	got := cl.take()
	require.Equal(t, 2, got.GitInfo.Depth)
	require.Equal(t, "branch", got.GitInfo.RefType)
	require.Equal(t, "main", got.variable("CI_COMMIT_REF_NAME"))
	require.Equal(t, "number 2", got.variable("CI_COMMIT_TITLE"))
	require.Equal(t, got.GitInfo.RepoURL, got.variable("CI_REPOSITORY_URL"))
	require.Equal(t, "group/app", got.variable("CI_PROJECT_PATH"))

	dir := t.TempDir()
	text, err := git(t, dir, "clone", "-q", got.GitInfo.RepoURL, "early")
	require.Error(t, err, "the job is not confirmed yet")
	require.Contains(t, text, "Authentication failed")
	require.Equal(t, []string{"git-token"}, breaches(c))

	require.Equal(t, http.StatusOK, cl.update(got, "running", nil).status)
	text, err = git(t, dir, "clone", "-q", got.GitInfo.RepoURL, "whole")
	require.NoError(t, err, text)

	// The way a runner does it: only the named refs, only so deep.
	_, err = git(t, dir, "init", "-q", "shallow")
	require.NoError(t, err)
	shallow := filepath.Join(dir, "shallow")
	args := append([]string{"fetch", "-q", "--depth", "2", got.GitInfo.RepoURL}, got.GitInfo.Refspecs...)
	text, err = git(t, shallow, args...)
	require.NoError(t, err, text)
	text, err = git(t, shallow, "rev-list", "--count", got.GitInfo.SHA)
	require.NoError(t, err)
	require.Equal(t, "2\n", text)

	text, err = git(t, filepath.Join(dir, "whole"), "push", "-q", "origin", "main:other")
	require.Error(t, err)
	require.Contains(t, text, "403")

	cl.update(got, "success", output(""))
	text, err = git(t, dir, "clone", "-q", got.GitInfo.RepoURL, "late")
	require.Error(t, err)
	require.Contains(t, text, "Authentication failed")
	require.Equal(t, "git-token", breaches(c)[1])

	require.NoError(t, c.Close())
	refs, err := git(t, bare, "for-each-ref", "refs/pipelines")
	require.NoError(t, err)
	require.Empty(t, refs, "the repository is left as it was found")
}

func TestChunkedNegotiationIsUnderstood(t *testing.T) {
	c := start(t, coordinator.Config{})
	require.NoError(t, c.AddRepository("group/app", bareRepository(t)))
	cl := newClient(t, c)
	_, err := c.Enqueue(coordinator.JobSpec{})
	require.NoError(t, err)
	got := cl.takeRunning()
	// A body whose length is not known in advance; it asks for the refs in protocol version 2.
	body := io.MultiReader(strings.NewReader("0014command=ls-refs\n"), strings.NewReader("0000"))
	request, err := http.NewRequestWithContext(t.Context(), "POST", got.GitInfo.RepoURL+"/git-upload-pack", body)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	request.Header.Set("Git-Protocol", "version=2")
	answer, err := cl.http.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	refs, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Contains(t, string(refs), "refs/heads/main")
}

func TestGitRefusesStrangers(t *testing.T) {
	c := start(t, coordinator.Config{})
	bare := bareRepository(t)
	require.NoError(t, c.AddRepository("group/app", bare))
	require.NoError(t, c.AddRepository("group/other", bare))
	require.NoError(t, c.AddRepository("group/shared", bare, "group/app"))
	cl := newClient(t, c)
	_, err := c.Enqueue(coordinator.JobSpec{Project: "group/app", Ref: "v1"})
	require.NoError(t, err)
	got := cl.takeRunning()
	require.Equal(t, "tag", got.GitInfo.RefType)
	require.Contains(t, got.GitInfo.Refspecs, "+refs/tags/v1:refs/tags/v1")
	require.Equal(t, "v1", got.variable("CI_COMMIT_TAG"))

	own := got.GitInfo.RepoURL
	tests := map[string]struct {
		url  string
		fine bool
	}{
		"own project":         {own, true},
		"allowed project":     {strings.Replace(own, "group/app", "group/shared", 1), true},
		"other project":       {strings.Replace(own, "group/app", "group/other", 1), false},
		"project not there":   {strings.Replace(own, "group/app", "group/none", 1), false},
		"wrong token":         {strings.Replace(own, got.Token, "glcbt-64_wrong", 1), false},
		"wrong user":          {strings.Replace(own, "gitlab-ci-token:", "oauth2:", 1), false},
		"without credentials": {strings.Replace(own, "gitlab-ci-token:"+got.Token+"@", "", 1), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			text, err := git(t, t.TempDir(), "ls-remote", test.url)
			if test.fine {
				require.NoError(t, err, text)
				return
			}
			require.Error(t, err)
		})
	}
	for _, breach := range breaches(c) {
		require.Equal(t, "git-token", breach)
	}
	require.Len(t, breaches(c), 4)
	require.Equal(t, http.StatusNotFound, cl.send("GET", c.URL()+"/group/app", nil, nil).status)
}

func TestCanceledJobMayNotFetchAndIsNotBlamed(t *testing.T) {
	c := start(t, coordinator.Config{})
	require.NoError(t, c.AddRepository("group/app", bareRepository(t)))
	cl := newClient(t, c)
	job, err := c.Enqueue(coordinator.JobSpec{})
	require.NoError(t, err)
	got := cl.takeRunning()
	job.Cancel(false)
	_, err = git(t, t.TempDir(), "ls-remote", got.GitInfo.RepoURL)
	require.Error(t, err)
	require.Empty(t, c.Violations())
}

func TestRepositoriesAreChecked(t *testing.T) {
	c := start(t, coordinator.Config{})
	bare := bareRepository(t)
	require.ErrorContains(t, c.AddRepository("app", bare), "group/project")
	require.ErrorContains(t, c.AddRepository("group/../app", bare), "group/project")
	require.ErrorContains(t, c.AddRepository("group/app", t.TempDir()), "git rev-parse")
	require.ErrorContains(t, c.AddRepository("group/app", filepath.Join(filepath.Dir(bare), "work", ".git")), "not a bare repository")
	require.NoError(t, c.AddRepository("group/app", bare))
	require.ErrorContains(t, c.AddRepository("group/app", bare), "already")

	_, err := c.Enqueue(coordinator.JobSpec{Project: "group/none"})
	require.ErrorContains(t, err, `no repository "group/none"`)
	_, err = c.Enqueue(coordinator.JobSpec{Ref: "nowhere"})
	require.ErrorContains(t, err, `branch or tag "nowhere"`)
	_, err = c.Enqueue(coordinator.JobSpec{Ref: "--all"})
	require.ErrorContains(t, err, "no name of a branch or tag")
	require.NoError(t, c.AddRepository("group/two", bare))
	_, err = c.Enqueue(coordinator.JobSpec{})
	require.ErrorContains(t, err, "several repositories")
}

func TestStagesFollowOneAnother(t *testing.T) {
	type end struct {
		state string
		extra map[string]any
	}
	bad := end{"failed", map[string]any{"failure_reason": "script_failure", "exit_code": 1}}
	good := end{"success", nil}
	tests := map[string]struct {
		allowFailure bool
		builds       []end
		test         coordinator.State
		sum          coordinator.State
	}{
		"all well":       {false, []end{good, good}, coordinator.StatePending, coordinator.StateSuccess},
		"one fails":      {false, []end{bad, good}, coordinator.StateSkipped, coordinator.StateFailed},
		"one may fail":   {true, []end{bad, good}, coordinator.StatePending, coordinator.StateSuccess},
		"last one fails": {false, []end{good, bad}, coordinator.StateSkipped, coordinator.StateFailed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := start(t, coordinator.Config{})
			require.NoError(t, c.AddRepository("group/app", bareRepository(t)))
			cl := newClient(t, c)
			p, err := c.NewPipeline(coordinator.PipelineSpec{Stages: []string{"build", "test"}, Variables: []coordinator.Variable{{Key: "P", Value: "1"}}})
			require.NoError(t, err)
			for range test.builds {
				_, err := p.Add(coordinator.JobSpec{Stage: "build", AllowFailure: test.allowFailure})
				require.NoError(t, err)
			}
			last, err := p.Add(coordinator.JobSpec{Stage: "test"})
			require.NoError(t, err)
			_, err = p.Add(coordinator.JobSpec{Stage: "deploy"})
			require.ErrorContains(t, err, `no stage "deploy"`)
			status, _ := cl.request()
			require.Equal(t, http.StatusNoContent, status, "not started yet")
			require.Equal(t, coordinator.StateCreated, p.State())
			p.Start()
			_, err = p.Add(coordinator.JobSpec{Stage: "test"})
			require.ErrorContains(t, err, "has been started")

			var running []payload
			for range test.builds {
				running = append(running, cl.takeRunning())
			}
			require.Equal(t, "1", running[0].variable("P"))
			for i, end := range test.builds {
				require.Equal(t, coordinator.StateCreated, last.State())
				require.Equal(t, coordinator.StateRunning, p.State())
				require.Equal(t, http.StatusOK, cl.update(running[i], end.state, end.extra).status)
			}
			require.Equal(t, test.test, last.State())
			if test.test == coordinator.StatePending {
				cl.update(cl.takeRunning(), "success", nil)
			}
			require.NoError(t, p.Wait(t.Context()))
			require.Equal(t, test.sum, p.State())
			require.Empty(t, c.Violations())
		})
	}
}

func TestCanceledPipelineEnds(t *testing.T) {
	c := start(t, coordinator.Config{})
	p, err := c.NewPipeline(coordinator.PipelineSpec{Stages: []string{"a", "b"}})
	require.NoError(t, err)
	for _, stage := range []string{"a", "b"} {
		_, err := p.Add(coordinator.JobSpec{Stage: stage})
		require.NoError(t, err)
	}
	p.Start()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.Canceled)
	require.ErrorIs(t, p.Wait(ctx), context.Canceled)
	p.Cancel(true)
	require.NoError(t, p.Wait(t.Context()))
	require.Equal(t, coordinator.StateCanceled, p.State())
	for _, job := range p.Jobs() {
		require.Equal(t, coordinator.StateCanceled, job.State())
	}
}

func TestJobIsSkippedWhenItsDependencyFails(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	first := enqueue(t, c, coordinator.JobSpec{})
	second := enqueue(t, c, coordinator.JobSpec{Dependencies: []*coordinator.Job{first}})
	third := enqueue(t, c, coordinator.JobSpec{Dependencies: []*coordinator.Job{second}})
	cl.update(cl.takeRunning(), "failed", map[string]any{"failure_reason": "script_failure", "exit_code": 1})
	require.NoError(t, third.Wait(t.Context()))
	require.Equal(t, coordinator.StateSkipped, second.State())
	require.Equal(t, coordinator.StateSkipped, third.State())
	require.NotNil(t, second.Pipeline())
}
