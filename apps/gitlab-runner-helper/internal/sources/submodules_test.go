package sources_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/gittest"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// family is a project with a submodule that has a submodule; two have odd names.
type family struct {
	child, grandchild *gittest.Repository
}

func (b *bench) family() family {
	f := family{child: b.server.NewRepository(b.t, "group/child"), grandchild: b.server.NewRepository(b.t, "group/grandchild")}
	f.grandchild.Commit(b.t, map[string]string{"file": "grandchild\n"})
	f.child.Commit(b.t, map[string]string{"file": "child\n"})
	f.child.AddSubmodule(b.t, "../grandchild.git", "hooks", f.grandchild)
	b.repo.Commit(b.t, map[string]string{"file": "parent\n"})
	return f
}

func (b *bench) submodulePlan(sha string, strategy plan.SubmoduleStrategy) *plan.Sources {
	p := b.plan(sha)
	p.Submodules = plan.Submodules{Strategy: strategy}
	return p
}

func TestSubmodulesAreFetchedWithTheJobsCredentials(t *testing.T) {
	for _, clean := range []bool{true, false} {
		b := newBench(t)
		f := b.family()
		sha := b.repo.AddSubmodule(t, "../child.git", "config", f.child)
		get := func(sha string) {
			t.Helper()
			p := b.submodulePlan(sha, plan.SubmoduleRecursive)
			p.CleanGitConfig = clean
			b.mustGet(p)
		}
		get(sha)
		require.Equal(t, "child\n", b.read("config/file"))
		require.Equal(t, "grandchild\n", b.read("config/hooks/file"))
		// The job's own commands in a submodule have the credentials, too.
		require.NotEmpty(t, gittest.Git(t, b.path("config/hooks"), "ls-remote", "origin"))

		b.write("config/untracked", "x")
		b.write("config/file", "changed by the job\n")
		b.write(".git/modules/config/index.lock", "")
		b.write(".git/modules/config/modules/hooks/index.lock", "")
		f.grandchild.Commit(t, map[string]string{"file": "grown\n"})
		f.child.UpdateSubmodule(t, "hooks")
		get(b.repo.UpdateSubmodule(t, "config"))
		require.Equal(t, "child\n", b.read("config/file"))
		require.NoFileExists(t, b.path("config/untracked"))
		require.Equal(t, "grown\n", b.read("config/hooks/file"))
		require.Empty(t, b.git("status", "--porcelain"))
		require.NotContains(t, b.log.String(), "afresh")
	}
}

func TestSubmodulesOfSubmodulesNeedTheRecursiveStrategy(t *testing.T) {
	b := newBench(t)
	f := b.family()
	sha := b.repo.AddSubmodule(t, "../child.git", "child", f.child)
	b.mustGet(b.submodulePlan(sha, plan.SubmoduleNone))
	require.NoFileExists(t, b.path("child/file"))
	b.mustGet(b.submodulePlan(sha, plan.SubmoduleNormal))
	require.FileExists(t, b.path("child/file"))
	require.NoFileExists(t, b.path("child/hooks/file"))
}

func TestSubmodulesCanBeChosen(t *testing.T) {
	b := newBench(t)
	f := b.family()
	b.repo.AddSubmodule(t, "../child.git", "one", f.child)
	sha := b.repo.AddSubmodule(t, "../grandchild.git", "two", f.grandchild)
	p := b.submodulePlan(sha, plan.SubmoduleNormal)
	p.Submodules.Paths = []string{"two"}
	p.Submodules.Depth = 1
	p.Submodules.UpdateFlags = []string{"--jobs", "2"}
	b.mustGet(p)
	require.NoFileExists(t, b.path("one/file"))
	require.FileExists(t, b.path("two/file"))
	require.Contains(t, b.log.String(), "Updating/initializing submodules with git depth set to 1...")
}

func TestSubmoduleThatMovedIsFollowed(t *testing.T) {
	b := newBench(t)
	f := b.family()
	b.mustGet(b.submodulePlan(b.repo.AddSubmodule(t, "../child.git", "child", f.child), plan.SubmoduleNormal))
	moved := b.server.NewRepository(t, "elsewhere/child")
	moved.Commit(t, map[string]string{"file": "moved\n"})
	b.mustGet(b.submodulePlan(b.repo.MoveSubmodule(t, "../../elsewhere/child.git", "child", moved), plan.SubmoduleNormal))
	require.Equal(t, "moved\n", b.read("child/file"))
}

func TestAbsoluteAddressesOfTheSameGitLabNeedNoCredentials(t *testing.T) {
	for name, change := range map[string]func(*plan.Sources){"token in URLs": func(*plan.Sources) {}, "no token in URLs": tokenless} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			f := b.family()
			p := b.submodulePlan(b.repo.AddSubmodule(t, f.child.URL, "child", f.child), plan.SubmoduleNormal)
			change(p)
			b.mustGet(p)
			require.Equal(t, "child\n", b.read("child/file"))
		})
	}
}

func TestLargeFilesAreFetched(t *testing.T) {
	b := newBench(t)
	// What the installation of git-lfs does for all users of a machine.
	require.NoError(t, os.WriteFile(filepath.Join(b.home, ".gitconfig"), []byte(
		"[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n\tprocess = git-lfs filter-process\n\trequired = true\n"), 0o644))
	files := map[string]string{".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin": b.server.LFSFile("large\n")}
	sub := b.server.NewRepository(t, "group/sub")
	sub.Commit(t, files)
	b.repo.Commit(t, files)
	sha := b.repo.AddSubmodule(t, "../sub.git", "sub", sub)

	p := b.submodulePlan(sha, plan.SubmoduleNormal)
	p.LFSSkipSmudge = true
	b.environ = append(b.environ, "GIT_LFS_SKIP_SMUDGE=1")
	b.mustGet(p)
	require.Contains(t, b.read("a.bin"), "git-lfs.github.com")

	b.environ = b.environ[:len(b.environ)-1]
	b.mustGet(b.submodulePlan(sha, plan.SubmoduleNormal))
	require.Equal(t, "large\n", b.read("a.bin"))
	require.Equal(t, "large\n", b.read("sub/a.bin"))
}

func TestUnusableSubmodulesAreClonedAfresh(t *testing.T) {
	const child, grandchild = ".git/modules/child", ".git/modules/child/modules/hooks"
	emptyObjects := func(b *bench, module string) {
		require.NoError(b.t, filepath.WalkDir(b.path(module+"/objects"), func(path string, e fs.DirEntry, _ error) error {
			if e.Type().IsRegular() {
				require.NoError(b.t, os.Chmod(path, 0o600))
				return os.WriteFile(path, nil, 0o600)
			}
			return nil
		}))
	}
	for name, damage := range map[string]func(b *bench){
		"empty objects":             func(b *bench) { emptyObjects(b, child) },
		"empty objects one further": func(b *bench) { emptyObjects(b, grandchild) },
		"no objects":                func(b *bench) { require.NoError(b.t, os.RemoveAll(b.path(child+"/objects"))) },
		"damaged index":             func(b *bench) { b.write(child+"/index", "nonsense") },
		"damaged HEAD":              func(b *bench) { b.write(child+"/HEAD", "nonsense") },
		"no HEAD one further":       func(b *bench) { require.NoError(b.t, os.Remove(b.path(grandchild+"/HEAD"))) },
		"a clone that was broken off": func(b *bench) {
			require.NoError(b.t, os.RemoveAll(b.path("child")))
			require.NoError(b.t, os.RemoveAll(b.path(child)))
			gittest.Git(b.t, b.project, "init", "--bare", child)
		},
		"a clone that has just begun": func(b *bench) {
			require.NoError(b.t, os.RemoveAll(b.path("child")))
			require.NoError(b.t, os.RemoveAll(b.path(child)))
			require.NoError(b.t, os.MkdirAll(b.path(child+"/objects"), 0o755))
		},
		"another repository in its place": func(b *bench) {
			require.NoError(b.t, os.RemoveAll(b.path("child")))
			gittest.Git(b.t, b.project, "init", "child")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			f := b.family()
			b.mustGet(b.submodulePlan(b.repo.AddSubmodule(t, "../child.git", "child", f.child), plan.SubmoduleRecursive))
			damage(b)
			f.grandchild.Commit(t, map[string]string{"file": "grown\n"})
			f.child.UpdateSubmodule(t, "hooks")
			b.mustGet(b.submodulePlan(b.repo.UpdateSubmodule(t, "child"), plan.SubmoduleRecursive))
			require.Equal(t, "child\n", b.read("child/file"))
			require.Equal(t, "grown\n", b.read("child/hooks/file"))
			require.Empty(t, b.git("status", "--porcelain"))
		})
	}
}

func TestASubmoduleThatCannotBeHadIsNoReasonToCloneAfresh(t *testing.T) {
	b := newBench(t)
	f := b.family()
	b.mustGet(b.submodulePlan(b.repo.AddSubmodule(t, "../child.git", "child", f.child), plan.SubmoduleNormal))
	f.child.Commit(t, map[string]string{"file": "grown\n"})
	sha := b.repo.UpdateSubmodule(t, "child")
	refused := b.submodulePlan(sha, plan.SubmoduleNormal)
	refused.InsteadOf[0].Replacement = strings.Replace(refused.InsteadOf[0].Replacement, gittest.Token, "wrong", 1)
	var exit *process.ExitError
	require.ErrorAs(t, b.get(refused), &exit)
	require.NotContains(t, b.log.String(), "afresh")
	b.mustGet(b.submodulePlan(sha, plan.SubmoduleNormal))
	require.Equal(t, "grown\n", b.read("child/file"))
}
