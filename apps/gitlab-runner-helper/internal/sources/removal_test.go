package sources_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/sources"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

func TestClearingKeepsTheRepositoryOnly(t *testing.T) {
	b := newBench(t)
	require.NoError(t, sources.Clear(t.Context(), b.stage()), "without a directory there is nothing to do")
	sha := b.repo.Commit(t, map[string]string{"a": "one\n"})
	b.mustGet(b.plan(sha))
	b.write("untracked/file", "x")
	require.NoError(t, sources.Clear(t.Context(), b.stage()))
	require.Equal(t, []string{".git"}, dirNames(t, b.project))
	b.mustGet(b.plan(sha))
	require.FileExists(t, b.path("a"))

	b.write(".git/HEAD", "nonsense")
	require.NoError(t, sources.Clear(t.Context(), b.stage()))
	require.NoDirExists(t, b.project)
}

func TestCleaningUpRemovesSecretsAndConfiguration(t *testing.T) {
	b := newBench(t)
	b.mustGet(b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"})))
	w := b.stage().Workspace
	for _, name := range []string{"gitlab_runner_env", "masking.db", "KUBECONFIG", "kept"} {
		require.NoError(t, w.WriteTmp(name, []byte("secret"), 0o600))
	}
	b.write(".git/hooks/pre-commit", "evil")
	b.write("untracked", "x")
	variables := []plan.Variable{{Key: "KUBECONFIG", File: true}, {Key: "kept"}, {Key: "../../home", File: true}}
	p := &plan.Cleanup{Strategy: plan.StrategyFetch, CleanGitConfig: true, CredentialHosts: []string{b.server.URL}}
	require.NoError(t, sources.CleanUp(t.Context(), b.stage(), p, variables))
	require.Equal(t, []string{"kept"}, dirNames(t, b.tmp))
	require.NoFileExists(t, b.path(".git/config"))
	require.NoDirExists(t, b.path(".git/hooks"))
	require.FileExists(t, b.path("untracked"))
	require.DirExists(t, b.home)
}

func TestCleaningUpTheWorkTree(t *testing.T) {
	setUp := func(t *testing.T) *bench {
		b := newBench(t)
		f := b.family()
		b.mustGet(b.submodulePlan(b.repo.AddSubmodule(t, "../child.git", "child", f.child), plan.SubmoduleRecursive))
		b.write("file", "changed")
		b.write("untracked", "x")
		b.write("child/untracked", "x")
		b.write("child/hooks/untracked", "x")
		return b
	}
	t.Run("fetch", func(t *testing.T) {
		b := setUp(t)
		p := &plan.Cleanup{Strategy: plan.StrategyFetch, Submodules: plan.SubmoduleRecursive, Worktree: true, CleanFlags: []string{"-ffdx"}, CleanGitConfig: true}
		require.NoError(t, sources.CleanUp(t.Context(), b.stage(), p, nil), "%s", b.log)
		require.Equal(t, "parent\n", b.read("file"))
		for _, name := range []string{"untracked", "child/untracked", "child/hooks/untracked"} {
			require.NoFileExists(t, b.path(name))
		}
	})
	t.Run("clone", func(t *testing.T) {
		b := setUp(t)
		require.NoError(t, sources.CleanUp(t.Context(), b.stage(), &plan.Cleanup{Strategy: plan.StrategyClone, Worktree: true}, nil))
		require.NoDirExists(t, b.project)
	})
	t.Run("none", func(t *testing.T) {
		b := setUp(t)
		require.NoError(t, sources.CleanUp(t.Context(), b.stage(), &plan.Cleanup{Strategy: plan.StrategyNone, Worktree: true}, nil))
		require.FileExists(t, b.path("untracked"))
		require.Contains(t, b.log.String(), "Skipping build directory cleanup step")
	})
}

func TestHostileGitConfigurationIsNotRunInCleanUp(t *testing.T) {
	b := newBench(t)
	b.mustGet(b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"})))
	evil := filepath.Join(b.home, "evil")
	b.git("config", "core.fsmonitor", "touch "+evil+"; false")
	hooks := filepath.Join(b.home, "hooks")
	require.NoError(t, os.Mkdir(hooks, 0o755))
	b.git("config", "core.hooksPath", hooks)
	for _, hook := range []string{"post-checkout", "post-index-change", "reference-transaction"} {
		require.NoError(t, os.WriteFile(filepath.Join(hooks, hook), []byte("#!/bin/sh\ntouch "+evil+"\n"), 0o755))
	}
	require.NoError(t, sources.Clear(t.Context(), b.stage()))
	p := &plan.Cleanup{Strategy: plan.StrategyFetch, Worktree: true, CleanFlags: []string{"-ffdx"}, CleanGitConfig: true}
	require.NoError(t, sources.CleanUp(t.Context(), b.stage(), p, nil))
	require.NoFileExists(t, evil)
}
