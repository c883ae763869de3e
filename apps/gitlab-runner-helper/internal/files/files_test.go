package files_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/files"
)

// untracked is a git that lists the given names.
type untracked []string

func (u untracked) Output(_ context.Context, _ string, _ int, args ...string) ([]byte, error) {
	if u == nil {
		return nil, errors.New("not a git repository")
	}
	return []byte(strings.Join(append(u, ""), "\x00")), nil
}

// tree makes files; names that end in / are directories, a > b is a link.
func tree(t testing.TB, names ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "project")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range names {
		if link, to, ok := strings.Cut(name, " > "); ok {
			require.NoError(t, os.Symlink(to, filepath.Join(dir, link)))
			continue
		}
		full := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			require.NoError(t, os.MkdirAll(full, 0o755))
			continue
		}
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		require.NoError(t, os.WriteFile(full, []byte(name), 0o644))
	}
	return dir
}

func collector(t testing.TB, dir string, git files.Git, out *bytes.Buffer) *files.Collector {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	values := map[string]string{"NAME": "out", "EMPTY": "", "DIR": dir, "STAR": "*"}
	return &files.Collector{
		Console: &console.Console{Out: out, Err: out}, Dir: dir, Root: root, Git: git,
		Lookup: func(key string) string { return values[key] },
	}
}

func TestPatternsFindWhatTheyName(t *testing.T) {
	dir := tree(t,
		"out/a.txt", "out/b.log", "out/deep/c.txt", "out/deep/.hidden", "src/main.go", "src/{x}.go", "top.txt",
		"hollow/", "link > out/deep", "dangling > nowhere", "outside > ../../..", ".git/config", "name with space", "[odd].txt", "-dash",
	)
	outDirectory := []string{"out", "out/a.txt", "out/b.log", "out/deep", "out/deep/.hidden", "out/deep/c.txt"}
	for _, c := range []struct {
		name    string
		request files.Request
		want    []string
		says    string
	}{
		{"file", files.Request{Paths: []string{"top.txt"}}, []string{"top.txt"}, "top.txt: found 1 matching artifact files and directories\n"},
		{"directory", files.Request{Paths: []string{"out"}}, outDirectory, "out: found 6 matching"},
		{"directory with slash", files.Request{Paths: []string{"./out/"}}, outDirectory, ""},
		{"all in a directory", files.Request{Paths: []string{"out/**"}}, outDirectory, ""},
		{"star", files.Request{Paths: []string{"out/*"}}, outDirectory[1:], ""},
		{"two stars", files.Request{Paths: []string{"**/*.txt"}}, []string{"[odd].txt", "out/a.txt", "out/deep/c.txt", "top.txt"}, ""},
		{"braces", files.Request{Paths: []string{"{out,src}/*.{txt,go}"}}, []string{"out/a.txt", "src/main.go", "src/{x}.go"}, ""},
		{"class", files.Request{Paths: []string{"out/[ab].*"}}, []string{"out/a.txt", "out/b.log"}, ""},
		{"escaped", files.Request{Paths: []string{`\[odd\].txt`}}, []string{"[odd].txt"}, ""},
		{"empty directory", files.Request{Paths: []string{"hollow"}}, []string{"hollow"}, ""},
		{"absolute", files.Request{Paths: []string{dir + "/top.txt"}}, []string{"top.txt"}, ""},
		{"spaces and dashes", files.Request{Paths: []string{"name with space", "-dash"}}, []string{"-dash", "name with space"}, ""},
		{"links are not followed", files.Request{Paths: []string{"link", "*ang*", "outside", "outside/**"}}, []string{"dangling", "link", "outside"}, "outside/**: no matching files"},
		{"stars do not follow links", files.Request{Paths: []string{"l*/**/*.txt", "**/c.txt"}}, []string{"out/deep/c.txt"}, ""},
		{"named link to a directory", files.Request{Paths: []string{"link/*.txt"}}, []string{"link/c.txt"}, ""},
		{"several times the same", files.Request{Paths: []string{"out", "out/a.txt", "out/**"}}, outDirectory, ""},
		{"excluded files", files.Request{Paths: []string{"out"}, Exclude: []string{"**/*.txt"}}, []string{"out", "out/b.log", "out/deep", "out/deep/.hidden"}, "**/*.txt: excluded 2 files\n"},
		{"excluded directory alone", files.Request{Paths: []string{"out"}, Exclude: []string{"out/deep"}}, []string{"out", "out/a.txt", "out/b.log", "out/deep/.hidden", "out/deep/c.txt"}, "out/deep: excluded 1 files\n"},
		{"excluded content", files.Request{Paths: []string{"out"}, Exclude: []string{"out/deep/**/*"}}, []string{"out", "out/a.txt", "out/b.log", "out/deep"}, ""},
		{"variable", files.Request{Paths: []string{"$NAME/a.txt", "${NOTHING:-src}/main.go"}}, []string{"out/a.txt", "src/main.go"}, "src/main.go: found 1"},
		{"pattern in a variable", files.Request{Paths: []string{"out/$STAR.txt"}}, []string{"out/a.txt"}, ""},
		{"variable with the project", files.Request{Paths: []string{"$DIR/top.txt"}}, []string{"top.txt"}, ""},
		{"empty", files.Request{Paths: []string{"", "$EMPTY"}}, nil, "empty path"},
		{"no match", files.Request{Paths: []string{"none/*"}}, nil, "WARNING: none/*: no matching files. Ensure that the artifact path is relative to the working directory (" + dir + ")"},
		{"outside", files.Request{Paths: []string{"../x", "/etc/passwd", dir + "-other/x", "out/../../x"}}, nil, "WARNING: /etc/passwd: artifact path is not a subpath of project directory: " + dir},
		{"not a word", files.Request{Paths: []string{"$(rm -rf /)", "${"}}, nil, `"$(rm -rf /)" is not a valid shell word`},
		{"not a pattern", files.Request{Paths: []string{"[a", "top.txt"}, Exclude: []string{"{x"}}, []string{"top.txt"}, "[a: it is not a valid pattern"},
		{"the repository", files.Request{Paths: []string{".git"}}, []string{".git", ".git/config"}, "Part of .git directory is on the list of files to archive"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			names, err := collector(t, dir, nil, &out).Collect(t.Context(), c.request)
			require.NoError(t, err)
			require.Equal(t, c.want, names, "%s", out.String())
			require.Contains(t, out.String(), c.says)
		})
	}
}

func TestUntrackedFilesAreThoseOfGit(t *testing.T) {
	dir := tree(t, "a", "b", "c")
	for _, c := range []struct {
		git  files.Git
		want []string
		says string
	}{
		{untracked{"b", "c", "../outside", "nested/"}, []string{"b", "nested"}, "untracked: found 2 files\n"},
		{untracked{}, nil, "WARNING: untracked: no files"},
		{untracked(nil), nil, "WARNING: untracked: not a git repository"},
	} {
		var out bytes.Buffer
		names, err := collector(t, dir, c.git, &out).Collect(t.Context(), files.Request{Untracked: true, Exclude: []string{"c"}})
		require.NoError(t, err)
		require.Equal(t, c.want, names)
		require.Contains(t, out.String(), c.says)
	}
}

func TestCollectingEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("given up"))
	var out bytes.Buffer
	_, err := collector(t, tree(t, "a/b"), nil, &out).Collect(ctx, files.Request{Paths: []string{"**"}})
	require.EqualError(t, err, "given up")
}

func TestPropertyWhatIsFoundIsInTheProjectAndSorted(t *testing.T) {
	dir := tree(t, "a/b/c", "a/b/d.x", "b/a", "c", "out > ..", "a/up > ../..", "abs > /")
	rapid.Check(t, func(rt *rapid.T) {
		patterns := rapid.SliceOfN(rapid.StringOf(rapid.RuneFrom([]rune(`abcx*?[]{},/.\$!-"'`))), 0, 4)
		var out bytes.Buffer
		names, err := collector(t, dir, nil, &out).Collect(t.Context(), files.Request{
			Paths: patterns.Draw(rt, "paths"), Exclude: patterns.Draw(rt, "exclude"),
		})
		require.NoError(rt, err)
		require.True(rt, slices.IsSorted(names))
		for _, name := range names {
			require.True(rt, filepath.IsLocal(name))
			real, err := filepath.EvalSymlinks(filepath.Dir(filepath.Join(dir, name)))
			require.NoError(rt, err)
			require.True(rt, real == dir || strings.HasPrefix(real, dir+"/"), name)
		}
	})
}

func FuzzWordsExpandOrAreKept(f *testing.F) {
	for _, seed := range []string{"$A", "${A:-x}", "${A", "$(x)", "`x`", "$((1/0))", "${A/x/y}", `\$A`, "$", "${#A}", "${A:0:99999999999}", "${!A}", "$((9**9**9))"} {
		f.Add(seed)
	}
	dir := tree(f)
	f.Fuzz(func(t *testing.T, word string) {
		if len(word) > 1<<10 {
			return
		}
		var out bytes.Buffer
		expanded := collector(t, dir, nil, &out).Expand(word)
		if out.Len() > 0 {
			require.Equal(t, word, expanded)
		}
	})
}
