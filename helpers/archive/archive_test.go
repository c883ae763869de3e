package archive_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/archive"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// openRoot opens a directory for a test.
func openRoot(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// names lists what is in a directory, in the order of a walk.
func names(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	require.NoError(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		all = append(all, filepath.ToSlash(rel))
		return err
	}))
	return all
}

// describe lists a directory's content with everything that an archive keeps.
func describe(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	for _, name := range names(t, dir) {
		full := filepath.Join(dir, name)
		info, err := os.Lstat(full)
		require.NoError(t, err)
		line := fmt.Sprintf("%s %s", name, info.Mode())
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(full)
			require.NoError(t, err)
			line += fmt.Sprintf(" %d %x %d", info.ModTime().Unix(), crc32.ChecksumIEEE(content), len(content))
		case info.Mode().Type() == fs.ModeSymlink:
			to, err := os.Readlink(full)
			require.NoError(t, err)
			line += " -> " + to
		default:
			line += fmt.Sprintf(" %d", info.ModTime().Unix())
		}
		all = append(all, line)
	}
	return all
}

// pack makes an archive of a directory's whole content in a new file.
func pack(t testing.TB, dir string, opts archive.Options) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "archive"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	require.NoError(t, archive.Create(t.Context(), f, openRoot(t, dir), names(t, dir), opts))
	return f
}

// text makes n bytes that compress about as well as source code.
func text(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([]string, 500)
	for i := range words {
		words[i] = strings.Repeat(string(rune('a'+r.IntN(26))), 1+r.IntN(3)) + fmt.Sprint(r.IntN(1000))
	}
	// A page of it is enough to be repeated with changes.
	var page bytes.Buffer
	for page.Len() < 64<<10 {
		page.WriteString(words[r.IntN(len(words))])
		page.WriteByte(" \n\t;"[r.IntN(4)])
	}
	out := make([]byte, 0, n+page.Len())
	for len(out) < n {
		cut := r.IntN(page.Len())
		out = append(append(out, page.Bytes()[cut:]...), page.Bytes()[:cut]...)
	}
	return out[:n]
}

func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:n]
}

// sampleTree has what archives meet: small and large files, links, empty directories, odd names.
func sampleTree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte, mode fs.FileMode) {
		full := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		require.NoError(t, os.WriteFile(full, content, 0o600))
		require.NoError(t, os.Chmod(full, mode))
		when := time.Date(2001, 2, 3, 4, 5, len(name)%60, 0, time.UTC)
		require.NoError(t, os.Chtimes(full, when, when))
	}
	write("readme.md", text(5000, 1), 0o644)
	write("bin/run", []byte("#!/bin/sh\n"), 0o755)
	write("bin/empty", nil, 0o666)
	write("deep/er/and/deeper", text(100, 2), 0o600)
	write("large.txt", text(2<<20+17, 3), 0o644)
	write("large.bin", noise(1<<20+99, 4), 0o644)
	write("exactly-one-chunk", text(1<<20, 5), 0o644)
	write("exactly-two-chunks", noise(2<<20, 6), 0o644)
	write("größe ☃ $x 'y' \"z\"", []byte("x"), 0o640)
	write("back\\slash", []byte("y"), 0o644)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "hollow"), 0o700))
	require.NoError(t, os.Symlink("readme.md", filepath.Join(dir, "link")))
	require.NoError(t, os.Symlink("/usr/bin/python3", filepath.Join(dir, "bin", "python")))
	require.NoError(t, os.Symlink("nowhere/at/all", filepath.Join(dir, "dangling")))
	when := time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	require.NoError(t, os.Chtimes(filepath.Join(dir, "hollow"), when, when))
	return dir
}

func TestEveryTreeFormatRestoresWhatItPacked(t *testing.T) {
	dir := sampleTree(t)
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd} {
		for _, level := range []archive.Level{archive.Fastest, archive.Default, archive.Slowest} {
			t.Run(fmt.Sprintf("%s/%s", format, level), func(t *testing.T) {
				t.Parallel()
				f := pack(t, dir, archive.Options{Format: format, Level: level})
				into := t.TempDir()
				require.NoError(t, archive.Extract(t.Context(), f, openRoot(t, into), archive.ExtractOptions{}))
				require.Equal(t, describe(t, dir), describe(t, into))
			})
		}
	}
}

func TestOtherProgramsReadTheArchives(t *testing.T) {
	dir := sampleTree(t)
	t.Run("unzip", func(t *testing.T) {
		f := pack(t, dir, archive.Options{})
		out, err := exec.Command("unzip", "-tq", f.Name()).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	t.Run("tar and zstd", func(t *testing.T) {
		f := pack(t, dir, archive.Options{Format: archive.TarZstd})
		into := t.TempDir()
		out, err := exec.Command("tar", "--zstd", "-xpf", f.Name(), "-C", into).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, describe(t, dir), describe(t, into))
	})
	t.Run("gunzip", func(t *testing.T) {
		f := pack(t, filepath.Join(dir, "deep"), archive.Options{Format: archive.Gzip})
		cmd := exec.Command("gunzip")
		cmd.Stdin, _ = os.Open(f.Name())
		out, err := cmd.Output()
		require.NoError(t, err)
		require.Equal(t, text(100, 2), out)
	})
}

func TestArchivesOfOtherProgramsAreUnpacked(t *testing.T) {
	dir := sampleTree(t)
	file := filepath.Join(t.TempDir(), "other.zip")
	cmd := exec.Command("zip", "-qry", file, ".")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	into := t.TempDir()
	require.NoError(t, archive.Extract(t.Context(), f, openRoot(t, into), archive.ExtractOptions{}))
	require.Equal(t, describe(t, dir), describe(t, into))
}

func TestGzipKeepsNamesInMembers(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/b/one.xml"), []byte("<one/>"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "two.xml"), []byte("<two/>"), 0o644))
	require.NoError(t, os.Symlink("two.xml", filepath.Join(dir, "zlink")))
	f := pack(t, dir, archive.Options{Format: archive.Gzip})
	into := t.TempDir()
	require.NoError(t, archive.Extract(t.Context(), f, openRoot(t, into), archive.ExtractOptions{}))
	require.Equal(t, []string{"a", "a/b", "a/b/one.xml", "two.xml"}, names(t, into))
}

func TestRawTakesExactlyOneFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "d"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "d/one"), []byte("content"), 0o644))
	f := pack(t, dir, archive.Options{Format: archive.Raw})
	content, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	require.Equal(t, "content", string(content))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "two"), nil, 0o644))
	err = archive.Create(t.Context(), &bytes.Buffer{}, openRoot(t, dir), names(t, dir), archive.Options{Format: archive.Raw})
	require.EqualError(t, err, "the raw format takes exactly one regular file, not 2")
}

func TestUnpackingReplacesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("new"), 0o644))
	require.NoError(t, os.Symlink("new-target", filepath.Join(dir, "b")))
	f := pack(t, dir, archive.Options{})

	into, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("untouched"), 0o644))
	require.NoError(t, os.Symlink(outside, filepath.Join(into, "a")))
	require.NoError(t, os.WriteFile(filepath.Join(into, "b"), []byte("old"), 0o400))
	require.NoError(t, archive.Extract(t.Context(), f, openRoot(t, into), archive.ExtractOptions{}))
	require.Equal(t, describe(t, dir), describe(t, into))
	content, err := os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "untouched", string(content))
}

func TestCancellationEndsPacking(t *testing.T) {
	dir := sampleTree(t)
	for _, format := range []archive.Format{archive.Zip, archive.TarZstd, archive.Gzip} {
		t.Run(string(format), func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(fmt.Errorf("given up"))
			err := archive.Create(ctx, &bytes.Buffer{}, openRoot(t, dir), names(t, dir), archive.Options{Format: format})
			require.ErrorContains(t, err, "given up")
		})
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, fmt.Errorf("disk full") }

func TestFailingOutputEndsPacking(t *testing.T) {
	dir := sampleTree(t)
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd, archive.Gzip} {
		t.Run(string(format), func(t *testing.T) {
			err := archive.Create(t.Context(), brokenWriter{}, openRoot(t, dir), names(t, dir), archive.Options{Format: format})
			require.ErrorContains(t, err, "disk full")
		})
	}
}

func TestVanishedAndSpecialFilesAreSkipped(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kept"), []byte("x"), 0o644))
	require.NoError(t, exec.Command("mkfifo", filepath.Join(dir, "pipe")).Run())
	for _, format := range []archive.Format{archive.Zip, archive.TarZstd, archive.Gzip} {
		var skipped []string
		opts := archive.Options{Format: format, Skipped: func(name, _ string) { skipped = append(skipped, name) }}
		var b bytes.Buffer
		require.NoError(t, archive.Create(t.Context(), &b, openRoot(t, dir), []string{"gone", "kept", "pipe"}, opts))
		slices.Sort(skipped)
		require.Equal(t, []string{"gone", "pipe"}, skipped)
	}
}

func TestPropertyWhatIsPackedComesOut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir := t.TempDir()
		part := rapid.StringMatching(`[a-zé☃ ._-]{1,12}`).Filter(func(s string) bool { return s != "." && s != ".." })
		count := rapid.IntRange(0, 12).Draw(rt, "files")
		for range count {
			name := filepath.Join(rapid.SliceOfN(part, 1, 4).Draw(rt, "name")...)
			full := filepath.Join(dir, name)
			if os.MkdirAll(filepath.Dir(full), 0o755) != nil {
				continue // a file of that name is in the way
			}
			size := rapid.SampledFrom([]int{0, 1, 100, 70_000, 1 << 20, 1<<20 + 1}).Draw(rt, "size")
			if rapid.Bool().Draw(rt, "link") {
				_ = os.Symlink(rapid.StringMatching(`[a-z./]{1,20}`).Draw(rt, "to"), full)
			} else {
				_ = os.WriteFile(full, text(size, uint64(size)), 0o644)
			}
		}
		format := rapid.SampledFrom([]archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd}).Draw(rt, "format")
		f := pack(t, dir, archive.Options{Format: format, Level: archive.Fastest})
		into := t.TempDir()
		if err := archive.Extract(t.Context(), f, openRoot(t, into), archive.ExtractOptions{}); err != nil {
			rt.Fatal(err)
		}
		require.Equal(rt, describe(t, dir), describe(t, into))
	})
}
