package localrun

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// git runs git with an identity of its own.
func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=A", "-c", "user.email=a@b"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
}

func newRepository(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "project")
	require.NoError(t, os.Mkdir(dir, 0o755))
	git(t, dir, "init", "--quiet", "--initial-branch=main")
	write(t, filepath.Join(dir, "file"), "one\n")
	write(t, filepath.Join(dir, ".gitignore"), "*.log\n")
	git(t, dir, "add", "--all")
	git(t, dir, "commit", "--quiet", "--message=The title\n\nThe rest")
	return dir
}

func openTree(t *testing.T, dir string) *Tree {
	t.Helper()
	tree, err := OpenTree(t.Context(), dir, t.TempDir())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tree.Close()) })
	return tree
}

// state is everything of a repository that could be changed.
func state(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		out[path] = string(data)
		return err
	}))
	return out
}

func TestUnchangedTreeIsItsCommit(t *testing.T) {
	dir := newRepository(t)
	tree := openTree(t, dir)
	require.False(t, tree.Changed())
	require.Equal(t, git(t, dir, "rev-parse", "HEAD"), tree.Sha)
	require.Equal(t, "main", tree.Ref)
	require.Equal(t, "local/project", tree.Project)
	list := tree.Predefined(time.Unix(1000, 0))
	require.Equal(t, "The title", list.Get("CI_COMMIT_TITLE"))
	require.Equal(t, "The rest", list.Get("CI_COMMIT_DESCRIPTION"))
	require.Equal(t, "A <a@b>", list.Get("CI_COMMIT_AUTHOR"))
	require.Equal(t, tree.Sha[:8], list.Get("CI_COMMIT_SHORT_SHA"))
	require.Equal(t, "1000", list.Get("CI_PIPELINE_ID"))
}

func TestChangesAreTakenAndTheRepositoryIsLeftAsItIs(t *testing.T) {
	dir := newRepository(t)
	git(t, dir, "tag", "v1")
	git(t, dir, "remote", "add", "origin", "git@gitlab.example.com:group/sub/name.git")
	write(t, filepath.Join(dir, "file"), "two\n")
	write(t, filepath.Join(dir, "new", "file"), "new\n")
	write(t, filepath.Join(dir, "x.log"), "ignored\n")
	write(t, filepath.Join(dir, "mine.txt"), "excluded\n")
	write(t, filepath.Join(dir, ".git", "info", "exclude"), "mine.txt\n")
	write(t, filepath.Join(dir, "staged"), "staged\n")
	git(t, dir, "add", "staged")
	before := state(t, dir)
	tree := openTree(t, filepath.Join(dir, "new"))
	require.Equal(t, before, state(t, dir))
	require.True(t, tree.Changed())
	require.Equal(t, "group/sub/name", tree.Project)
	require.Equal(t, ".gitignore\nfile\nnew/file\nstaged", git(t, tree.store, "ls-tree", "-r", "--name-only", tree.Sha))
	require.Equal(t, "two", git(t, tree.store, "show", tree.Sha+":file"))
	require.Equal(t, tree.Parent, git(t, tree.store, "rev-parse", tree.Sha+"^"))
	require.Equal(t, tree.Sha, git(t, tree.store, "rev-parse", "refs/heads/main"))
	require.Equal(t, tree.Parent, git(t, tree.store, "rev-parse", "refs/tags/v1"))
}

func TestTreesOfAllKinds(t *testing.T) {
	t.Run("without a commit", func(t *testing.T) {
		dir := t.TempDir()
		git(t, dir, "init", "--quiet", "--initial-branch=trunk")
		write(t, filepath.Join(dir, "file"), "x")
		tree := openTree(t, dir)
		require.Empty(t, tree.Parent)
		require.Equal(t, "trunk", tree.Ref)
		require.Equal(t, "file", git(t, tree.store, "ls-tree", "-r", "--name-only", tree.Sha))
	})
	t.Run("on a tag", func(t *testing.T) {
		dir := newRepository(t)
		git(t, dir, "tag", "v2")
		git(t, dir, "checkout", "--quiet", "v2")
		tree := openTree(t, dir)
		require.True(t, tree.Tag)
		require.Equal(t, "v2", tree.Predefined(time.Now()).Get("CI_COMMIT_TAG"))
		require.Equal(t, tree.Sha, git(t, tree.store, "rev-parse", "refs/tags/v2"))
	})
	t.Run("detached", func(t *testing.T) {
		dir := newRepository(t)
		git(t, dir, "checkout", "--quiet", "--detach")
		require.Equal(t, "detached", openTree(t, dir).Ref)
	})
	t.Run("a further worktree", func(t *testing.T) {
		dir := newRepository(t)
		other := filepath.Join(t.TempDir(), "other")
		git(t, dir, "worktree", "add", "--quiet", "-b", "feature", other)
		write(t, filepath.Join(other, "more"), "x")
		tree := openTree(t, other)
		require.Equal(t, "feature", tree.Ref)
		require.Equal(t, ".gitignore\nfile\nmore", git(t, tree.store, "ls-tree", "-r", "--name-only", tree.Sha))
	})
	t.Run("shallow", func(t *testing.T) {
		dir := newRepository(t)
		git(t, dir, "commit", "--quiet", "--allow-empty", "--message=second")
		clone := filepath.Join(t.TempDir(), "clone")
		git(t, dir, "clone", "--quiet", "--depth=1", "file://"+filepath.ToSlash(dir), clone)
		write(t, filepath.Join(clone, "more"), "x")
		tree := openTree(t, clone)
		require.Equal(t, "2", git(t, tree.store, "rev-list", "--count", tree.Sha))
	})
	t.Run("of sha256", func(t *testing.T) {
		dir := t.TempDir()
		git(t, dir, "init", "--quiet", "--object-format=sha256")
		write(t, filepath.Join(dir, "file"), "x")
		tree := openTree(t, dir)
		require.Equal(t, "sha256", tree.ObjectFormat)
		require.Len(t, tree.Sha, 64)
	})
	t.Run("none", func(t *testing.T) {
		_, err := OpenTree(t.Context(), t.TempDir(), t.TempDir())
		require.ErrorContains(t, err, "is not in a working tree of git")
	})
}

func TestReadingDoesNotLeaveTheTree(t *testing.T) {
	dir := newRepository(t)
	write(t, filepath.Join(filepath.Dir(dir), "secret"), "secret")
	require.NoError(t, os.Symlink("../secret", filepath.Join(dir, "link")))
	tree := openTree(t, dir)
	for _, name := range []string{"../secret", "link", "/etc/hostname"} {
		_, err := tree.Read(name)
		require.Error(t, err, name)
	}
	data, err := tree.Read("file")
	require.NoError(t, err)
	require.Equal(t, "one\n", string(data))
	write(t, filepath.Join(dir, "large"), strings.Repeat("x", maxFile+1))
	_, err = tree.Read("large")
	require.ErrorContains(t, err, "larger than 4 MiB")

	for pattern, want := range map[string]bool{"file": true, "*": true, "**/fil?": true, "no": false, "../secret": false, "a/**/b": false} {
		found, err := tree.Exists(pattern)
		require.NoError(t, err, pattern)
		require.Equal(t, want, found, pattern)
	}
}

func TestProjectPaths(t *testing.T) {
	for remote, want := range map[string]string{
		"https://gitlab.com/group/name.git": "group/name",
		"https://user:secret@host/a/b/c":    "a/b/c",
		"ssh://git@host:2222/a/b.git":       "a/b",
		"git@host:a/b.git":                  "a/b",
		"":                                  "local/dir",
		"/srv/git/x.git":                    "local/dir",
		"https://host/a/../b":               "local/dir",
		"https://host/with space/b":         "local/dir",
		"https://host/one":                  "local/dir",
	} {
		require.Equal(t, want, projectPath(remote, "/home/me/dir"), remote)
	}
	require.Equal(t, "local/my-dir", projectPath("", "/home/me/my dir"))
}
