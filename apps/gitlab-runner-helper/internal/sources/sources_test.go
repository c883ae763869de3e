package sources_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/gittest"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/sources"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// bench is a job's directories on a machine, and a server with its project.
type bench struct {
	t       *testing.T
	server  *gittest.Server
	repo    *gittest.Repository
	project string
	tmp     string
	home    string
	environ []string
	log     *gittest.Log
}

func newBench(t *testing.T) *bench {
	t.Helper()
	base := t.TempDir()
	b := &bench{
		t: t, server: gittest.NewServer(t), log: &gittest.Log{},
		project: filepath.Join(base, "builds", "group", "project"),
		tmp:     filepath.Join(base, "builds", "group", "project.tmp"),
		home:    filepath.Join(base, "home"),
	}
	require.NoError(t, os.Mkdir(b.home, 0o755))
	b.environ = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.home, "CI_JOB_TOKEN=" + gittest.Token}
	b.repo = b.server.NewRepository(t, "group/project")
	return b
}

// plan is what the runner would ask for: a fetch of depth 20.
func (b *bench) plan(sha string) *plan.Sources {
	return &plan.Sources{
		Strategy:                 plan.StrategyFetch,
		RemoteURL:                b.repo.URL,
		RemoteURLWithCredentials: b.server.WithCredentials(b.repo.URL),
		InsteadOf:                []plan.Alias{{Replacement: b.server.WithCredentials(b.server.URL), Original: b.server.URL}},
		Refspecs:                 []string{"+refs/pipelines/1:refs/pipelines/1", "+refs/heads/main:refs/remotes/origin/main"},
		Depth:                    20,
		Sha:                      sha,
		Ref:                      "main",
		Checkout:                 true,
		UserAgent:                "gitlab-runner 1.2.3 linux/amd64",
		CleanFlags:               []string{"-ffdx"},
		FetchFlags:               []string{"--prune", "--quiet"},
		SafeDirectory:            true,
		CleanGitConfig:           true,
		BundleURIs:               true,
		CorrelationID:            "01CORRELATION",
		CredentialHosts:          []string{b.server.URL},
		Submodules:               plan.Submodules{Strategy: plan.SubmoduleNone},
	}
}

func (b *bench) stage() sources.Stage {
	w, err := workspace.New(b.project, b.tmp)
	require.NoError(b.t, err)
	return sources.Stage{
		Workspace: w, Console: &console.Console{Out: b.log, Err: b.log},
		Environment: process.NewEnvironment(b.environ), Server: plan.Server{URL: b.server.URL},
	}
}

func (b *bench) get(p *plan.Sources) error {
	return sources.Get(b.t.Context(), b.stage(), p)
}

func (b *bench) mustGet(p *plan.Sources) {
	b.t.Helper()
	require.NoError(b.t, b.get(p), "%s", b.log)
}

func (b *bench) path(name string) string {
	return filepath.Join(b.project, name)
}

func (b *bench) read(name string) string {
	b.t.Helper()
	content, err := os.ReadFile(b.path(name))
	require.NoError(b.t, err)
	return string(content)
}

func (b *bench) write(name, content string) {
	b.t.Helper()
	require.NoError(b.t, os.MkdirAll(filepath.Dir(b.path(name)), 0o755))
	require.NoError(b.t, os.WriteFile(b.path(name), []byte(content), 0o644))
}

// git runs git in the project as a script of the job does.
func (b *bench) git(args ...string) string {
	b.t.Helper()
	return gittest.Git(b.t, b.project, args...)
}

func TestEveryStrategyThatFetchesChecksTheCommitOut(t *testing.T) {
	for name, change := range map[string]func(*plan.Sources){
		"fetch":               func(*plan.Sources) {},
		"clone":               func(p *plan.Sources) { p.Strategy = plan.StrategyClone },
		"native clone":        func(p *plan.Sources) { p.Strategy, p.NativeClone = plan.StrategyClone, true },
		"whole history":       func(p *plan.Sources) { p.Depth = 0 },
		"kept configuration":  func(p *plan.Sources) { p.CleanGitConfig = false },
		"proactive":           func(p *plan.Sources) { p.ProactiveAuth = true },
		"no token in URLs":    tokenless,
		"git's own clean-up":  func(p *plan.Sources) { p.FetchFlags = nil },
		"no LFS":              func(p *plan.Sources) { p.LFSSkipSmudge = true },
		"kept untracked file": func(p *plan.Sources) { p.CleanFlags = nil },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first := b.repo.Commit(t, map[string]string{"a": "one\n", "dir/b": "two\n"})
			p := b.plan(first)
			change(p)
			b.mustGet(p)
			require.Equal(t, first, b.git("rev-parse", "HEAD"))
			require.Equal(t, "two\n", b.read("dir/b"))
			require.Empty(t, b.git("status", "--porcelain"))

			b.write("untracked/file", "x")
			b.write("a", "changed by the job\n")
			second := b.repo.Commit(t, map[string]string{"a": "three\n", "dir/b": ""})
			p = b.plan(second)
			change(p)
			b.mustGet(p)
			require.Equal(t, second, b.git("rev-parse", "HEAD"))
			require.Equal(t, "three\n", b.read("a"))
			require.NoFileExists(t, b.path("dir/b"))
			if p.CleanFlags == nil {
				require.FileExists(t, b.path("untracked/file"))
			} else {
				require.NoFileExists(t, b.path("untracked/file"))
			}
		})
	}
}

func tokenless(p *plan.Sources) {
	p.TokenlessURLs = true
	p.RemoteURLWithCredentials = ""
	p.InsteadOf = nil
}

func TestNoCredentialIsInTheWorkTree(t *testing.T) {
	b := newBench(t)
	b.mustGet(b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"})))
	require.NoError(t, filepath.WalkDir(b.project, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		if entry.Type().IsRegular() {
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NotContains(t, string(content), gittest.Token, path)
		}
		return nil
	}))
	require.NotContains(t, b.log.String(), gittest.Token)
	// The job's own git gets them from outside.
	require.NotEmpty(t, b.git("ls-remote", "origin"))
	require.Equal(t, b.repo.URL, b.git("config", "remote.origin.url"))
}

func TestServersSeeWhoAsks(t *testing.T) {
	b := newBench(t)
	b.mustGet(b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"})))
	for _, r := range b.server.Requests() {
		require.Equal(t, "gitlab-runner 1.2.3 linux/amd64", r.UserAgent())
		require.Equal(t, []string{"01CORRELATION"}, r.Header.Values("X-Gitaly-Correlation-ID"))
	}
}

func TestShallowRepositoryGetsItsHistory(t *testing.T) {
	b := newBench(t)
	b.repo.Commit(t, map[string]string{"a": "one\n"})
	b.repo.Commit(t, map[string]string{"a": "two\n"})
	sha := b.repo.Commit(t, map[string]string{"a": "three\n"})
	p := b.plan(sha)
	p.Depth = 1
	b.mustGet(p)
	require.Equal(t, "1", b.git("rev-list", "--count", "HEAD"))
	p = b.plan(sha)
	p.Depth = 0
	b.mustGet(p)
	require.Equal(t, "3", b.git("rev-list", "--count", "HEAD"))
}

func TestRepositoryMayUseSHA256(t *testing.T) {
	b := newBench(t)
	b.mustGet(b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"})))

	b.repo = b.server.NewRepository(t, "group/modern", "--object-format=sha256")
	p := b.plan(b.repo.Commit(t, map[string]string{"a": "two\n"}))
	p.ObjectFormat = "sha256"
	b.mustGet(p) // over the repository of the other kind
	require.Equal(t, "two\n", b.read("a"))
	require.Contains(t, b.log.String(), "cloned afresh")
}

func TestStrategiesWithoutARepository(t *testing.T) {
	b := newBench(t)
	b.write("kept", "x")
	require.NoError(t, b.get(&plan.Sources{Strategy: plan.StrategyNone}))
	require.FileExists(t, b.path("kept"))
	require.NoError(t, b.get(&plan.Sources{Strategy: plan.StrategyEmpty}))
	require.NoFileExists(t, b.path("kept"))
	require.DirExists(t, b.project)
	require.Empty(t, b.server.Requests())
}

func TestCheckoutCanBeLeftOut(t *testing.T) {
	b := newBench(t)
	p := b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"}))
	p.Checkout = false
	b.mustGet(p)
	require.NoFileExists(t, b.path("a"))
	require.Contains(t, b.log.String(), "Skipping Git checkout")
}

func TestUnusableRepositoriesAreClonedAfresh(t *testing.T) {
	for name, damage := range map[string]func(b *bench){
		"empty objects": func(b *bench) {
			require.NoError(b.t, filepath.WalkDir(b.path(".git/objects"), func(path string, e fs.DirEntry, _ error) error {
				if e.Type().IsRegular() {
					require.NoError(b.t, os.Chmod(path, 0o600))
					return os.WriteFile(path, nil, 0o600)
				}
				return nil
			}))
		},
		"damaged index": func(b *bench) { b.write(".git/index", "nonsense") },
		"damaged HEAD":  func(b *bench) { b.write(".git/HEAD", "nonsense") },
		"no objects":    func(b *bench) { require.NoError(b.t, os.RemoveAll(b.path(".git/objects"))) },
		"branch where a directory has to be": func(b *bench) {
			b.git("update-ref", "-d", "refs/pipelines/1")
			b.git("update-ref", "refs/pipelines/1/2", "HEAD")
		},
		"a lock that is not known": func(b *bench) { b.write(".git/shallow.lock.lock", ""); b.write(".git/objects/info/x.lock", "") },
		"repository is a file": func(b *bench) {
			require.NoError(b.t, os.RemoveAll(b.path(".git")))
			b.write(".git", "gitdir: /nowhere")
		},
		"repository is a link": func(b *bench) {
			require.NoError(b.t, os.RemoveAll(b.path(".git")))
			require.NoError(b.t, os.Symlink(b.home, b.path(".git")))
		},
		"project is a file": func(b *bench) {
			require.NoError(b.t, os.RemoveAll(b.project))
			require.NoError(b.t, os.WriteFile(b.project, nil, 0o644))
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.mustGet(b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"})))
			damage(b)
			sha := b.repo.Commit(t, map[string]string{"a": "two\n"})
			b.mustGet(b.plan(sha))
			require.Equal(t, "two\n", b.read("a"))
			require.Equal(t, sha, b.git("rev-parse", "HEAD"))
			require.Empty(t, b.git("status", "--porcelain"))
			require.Empty(t, dirNames(t, b.home))
		})
	}
}

func dirNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestLocksAndHooksOfEarlierJobsAreRemoved(t *testing.T) {
	b := newBench(t)
	b.mustGet(b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"})))
	b.git("config", "core.fsmonitor", "touch "+filepath.Join(b.home, "evil"))
	for _, lock := range []string{"index.lock", "shallow.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "refs/remotes/origin/main.lock"} {
		b.write(".git/"+lock, "")
	}
	evil := filepath.Join(b.home, "evil")
	b.write(".git/hooks/post-checkout", "#!/bin/sh\ntouch "+evil+"\n")
	require.NoError(t, os.Chmod(b.path(".git/hooks/post-checkout"), 0o755))
	b.mustGet(b.plan(b.repo.Commit(t, map[string]string{"a": "two\n"})))
	require.Equal(t, "two\n", b.read("a"))
	require.NoFileExists(t, evil)
	require.NotContains(t, b.log.String(), "afresh")
}

func TestRemoteThatMovedIsFollowed(t *testing.T) {
	for _, clean := range []bool{true, false} {
		b := newBench(t)
		p := b.plan(b.repo.Commit(t, map[string]string{"a": "one\n"}))
		p.CleanGitConfig = clean
		b.mustGet(p)
		b.repo = b.server.NewRepository(t, "elsewhere/project")
		p = b.plan(b.repo.Commit(t, map[string]string{"a": "moved\n"}))
		p.CleanGitConfig = clean
		b.mustGet(p)
		require.Equal(t, "moved\n", b.read("a"))
		require.Equal(t, b.repo.URL, b.git("config", "remote.origin.url"))
	}
}

func TestFailuresElsewhereAreNotRepeated(t *testing.T) {
	b := newBench(t)
	sha := b.repo.Commit(t, map[string]string{"a": "one\n"})
	b.mustGet(b.plan(sha))
	b.write("untracked", "x")

	p := b.plan(sha)
	p.RemoteURLWithCredentials = strings.Replace(p.RemoteURLWithCredentials, gittest.Token, "wrong", 1)
	p.InsteadOf = nil
	err := b.get(p)
	var exit *process.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 128, exit.Code)

	p = b.plan(strings.Repeat("0123456789", 4))
	require.ErrorAs(t, b.get(p), &exit)
	p = b.plan(sha)
	p.Refspecs = []string{"+refs/heads/gone:refs/heads/gone"}
	require.ErrorAs(t, b.get(p), &exit)

	require.FileExists(t, b.path("untracked"))
	require.NotContains(t, b.log.String(), "afresh")
}

func TestPlansThatMakeNoSenseAreRefused(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		change  func(*plan.Sources)
		message string
	}{
		{func(p *plan.Sources) { p.Strategy = "copy" }, `unknown GIT_STRATEGY "copy"`},
		{func(p *plan.Sources) { p.Submodules.Strategy = "all" }, `unknown GIT_SUBMODULE_STRATEGY "all"`},
		{func(p *plan.Sources) { p.Sha = "--upload-pack=evil" }, "not a full commit id"},
		{func(p *plan.Sources) { p.RemoteURL = "" }, "no URL"},
		{func(p *plan.Sources) { p.RemoteURLWithCredentials = "https://x/\n[core]" }, "line break"},
	} {
		p := b.plan(strings.Repeat("a", 40))
		c.change(p)
		require.ErrorContains(t, b.get(p), c.message)
	}
	require.NoDirExists(t, b.project)
}

// newerGit puts a git before the real one that claims to be 2.49 and notes how it is called to clone.
// It does what the real one can of that: it clones a branch.
func newerGit(t *testing.T) (calls string) {
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	real := strings.TrimSuffix(gittest.Git(t, "", "--exec-path"), "/") + "/git"
	script := "#!/bin/sh\ncase \" $* \" in\n*\" version \"*) echo git version 2.49.0; exit;;\n" +
		"*\" clone \"*) printf '%s\\n' \"$@\" > " + calls + "; for a; do shift; case $a in --revision) set -- \"$@\" --branch;; refs/*) set -- \"$@\" main;; *) set -- \"$@\" \"$a\";; esac; done;;\n" +
		"esac\nexec " + real + " \"$@\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "git"), []byte(script), 0o755))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return calls
}

func TestNativeCloneGetsTheCommitWhateverTheRefHas(t *testing.T) {
	b := newBench(t)
	calls := newerGit(t)
	old := b.repo.Commit(t, map[string]string{"a": "one\n"})
	b.repo.Commit(t, map[string]string{"a": "two\n"})
	for _, ref := range []string{"main", "refs/pipelines/1"} {
		p := b.plan(old)
		p.Strategy, p.NativeClone, p.Ref, p.Depth = plan.StrategyClone, true, ref, 1
		p.Refspecs = []string{"+" + old + ":refs/pipelines/1"}
		p.CloneFlags = []string{"--single-branch"}
		b.mustGet(p)
		require.Equal(t, old, b.git("rev-parse", "HEAD"))
		content, err := os.ReadFile(calls)
		require.NoError(t, err)
		flag := map[bool]string{false: "--branch", true: "--revision"}[ref != "main"]
		require.Equal(t, []string{
			"-c", "http.userAgent=gitlab-runner 1.2.3 linux/amd64", "clone", "--no-checkout", b.repo.URL, b.project,
			"--template", filepath.Join(b.tmp, "git-template"), "--depth", "1", flag, ref, "--single-branch",
		}, strings.Split(strings.TrimSpace(string(content)), "\n"))
	}
}
