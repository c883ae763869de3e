package archive_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/archive"
)

// item is an entry of a hostile archive.
type item struct {
	name    string
	mode    fs.FileMode
	content string
}

func zipOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, i := range items {
		header := &zip.FileHeader{Name: i.name, Method: zip.Deflate}
		header.SetMode(i.mode)
		body, err := w.CreateHeader(header)
		require.NoError(t, err)
		_, err = io.WriteString(body, i.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func tarOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	require.NoError(t, err)
	w := tar.NewWriter(z)
	for _, i := range items {
		header := &tar.Header{Name: i.name, Mode: int64(i.mode.Perm()), Typeflag: tar.TypeReg, Size: int64(len(i.content))}
		switch i.mode.Type() {
		case fs.ModeSymlink:
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, i.content, 0
		case fs.ModeIrregular: // stands for a hard link here
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, i.content, 0
		case fs.ModeDevice:
			header.Typeflag, header.Size = tar.TypeBlock, 0
		case fs.ModeNamedPipe:
			header.Typeflag, header.Size = tar.TypeFifo, 0
		case fs.ModeDir:
			header.Typeflag, header.Size = tar.TypeDir, 0
		}
		require.NoError(t, w.WriteHeader(header))
		_, err := io.WriteString(w, i.content[:header.Size])
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, z.Close())
	return b.Bytes()
}

func gzipOf(t testing.TB, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name = name
	_, err := io.WriteString(w, content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// extractBytes unpacks data into a new directory, which has a neighbour that nobody may touch, and
// returns the directory.
func extractBytes(t testing.TB, data []byte, prepare func(dir string)) (dir string, skipped []string, err error) {
	t.Helper()
	base := t.TempDir()
	dir = filepath.Join(base, "project")
	neighbour := filepath.Join(base, "neighbour")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.Mkdir(neighbour, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(neighbour, "secret"), []byte("untouched"), 0o644))
	if prepare != nil {
		prepare(dir)
	}
	file := filepath.Join(base, "archive")
	require.NoError(t, os.WriteFile(file, data, 0o600))
	before := outside(t, base)
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	defer root.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = archive.Extract(ctx, f, root, archive.ExtractOptions{Skipped: func(name, _ string) { skipped = append(skipped, name) }})
	require.Equal(t, before, outside(t, base), "something outside of the directory changed")
	return dir, skipped, err
}

// outside describes everything in base but the project's content.
func outside(t testing.TB, base string) []string {
	t.Helper()
	var all []string
	for _, line := range describe(t, base) {
		if !strings.HasPrefix(line, "project") {
			all = append(all, line)
		}
	}
	return all
}

func TestNamesThatLeadOutAreRefused(t *testing.T) {
	for _, name := range []string{"../neighbour/secret", "a/../../neighbour/secret", "/etc/evil", ".."} {
		for format, make := range map[string]func(testing.TB, ...item) []byte{"zip": zipOf, "tar": tarOf} {
			t.Run(format+" "+name, func(t *testing.T) {
				_, _, err := extractBytes(t, make(t, item{name, 0o644, "evil"}), nil)
				require.ErrorIs(t, err, archive.ErrUnsafeName)
			})
		}
	}
	_, _, err := extractBytes(t, gzipOf(t, "../neighbour/secret", "evil"), nil)
	require.ErrorIs(t, err, archive.ErrUnsafeName)
}

func TestNothingIsWrittenThroughLinksThatLeadOut(t *testing.T) {
	through := []item{{"door", fs.ModeSymlink | 0o777, "../neighbour"}, {"door/secret", 0o644, "evil"}}
	absolute := []item{{"door", fs.ModeSymlink | 0o777, "/tmp"}, {"door/x/y", 0o644, "evil"}}
	for name, items := range map[string][]item{"relative": through, "absolute": absolute} {
		for format, make := range map[string]func(testing.TB, ...item) []byte{"zip": zipOf, "tar": tarOf} {
			t.Run(name+" in the archive/"+format, func(t *testing.T) {
				_, _, err := extractBytes(t, make(t, items...), nil)
				require.Error(t, err)
			})
			t.Run(name+" in the directory/"+format, func(t *testing.T) {
				_, _, err := extractBytes(t, make(t, items[1]), func(dir string) {
					require.NoError(t, os.Symlink(items[0].content, filepath.Join(dir, "door")))
				})
				require.Error(t, err)
			})
		}
	}
	t.Run("hard link to a file outside", func(t *testing.T) {
		_, _, err := extractBytes(t, tarOf(t, item{"x", fs.ModeIrregular, "../neighbour/secret"}, item{"x", 0o644, "evil"}), nil)
		require.ErrorIs(t, err, archive.ErrUnsafeName)
	})
	t.Run("hard link through a link", func(t *testing.T) {
		_, _, err := extractBytes(t, tarOf(t, item{"x", fs.ModeIrregular, "door/secret"}), func(dir string) {
			require.NoError(t, os.Symlink("../neighbour", filepath.Join(dir, "door")))
		})
		require.Error(t, err)
	})
}

func TestLinksInsideTheDirectoryAreFollowed(t *testing.T) {
	dir, _, err := extractBytes(t, zipOf(t, item{"door/new", 0o644, "content"}), func(dir string) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, "room"), 0o755))
		require.NoError(t, os.Symlink("room", filepath.Join(dir, "door")))
	})
	require.NoError(t, err)
	content, err := os.ReadFile(filepath.Join(dir, "room", "new"))
	require.NoError(t, err)
	require.Equal(t, "content", string(content))
}

func TestDevicesAndPipesAreNotMade(t *testing.T) {
	items := []item{{"dev", fs.ModeDevice | 0o666, ""}, {"pipe", fs.ModeNamedPipe | 0o666, ""}, {"ok", 0o644, "x"}}
	for format, make := range map[string]func(testing.TB, ...item) []byte{"zip": zipOf, "tar": tarOf} {
		t.Run(format, func(t *testing.T) {
			dir, skipped, err := extractBytes(t, make(t, items...), nil)
			require.NoError(t, err)
			require.Equal(t, []string{"ok"}, names(t, dir))
			require.ElementsMatch(t, []string{"dev", "pipe"}, skipped)
		})
	}
}

func TestSpecialModeBitsAreNotRestored(t *testing.T) {
	dir, _, err := extractBytes(t, zipOf(t, item{"su", fs.ModeSetuid | 0o755, "x"}), nil)
	require.NoError(t, err)
	info, err := os.Lstat(filepath.Join(dir, "su"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), info.Mode())
}

func TestDamagedArchivesAreErrors(t *testing.T) {
	whole := map[string][]byte{
		"zip":  zipOf(t, item{"a", 0o644, strings.Repeat("content ", 1000)}),
		"tar":  tarOf(t, item{"a", 0o644, strings.Repeat("content ", 1000)}),
		"gzip": gzipOf(t, "a", strings.Repeat("content ", 1000)),
	}
	for name, data := range whole {
		t.Run(name+" cut short", func(t *testing.T) {
			_, _, err := extractBytes(t, data[:len(data)/2], nil)
			require.Error(t, err)
		})
	}
	t.Run("empty", func(t *testing.T) {
		_, _, err := extractBytes(t, nil, nil)
		require.Error(t, err)
	})
	t.Run("unknown", func(t *testing.T) {
		_, _, err := extractBytes(t, []byte("<html>not found</html>"), nil)
		require.ErrorContains(t, err, "reading the zip archive")
	})
	t.Run("gzip without a name", func(t *testing.T) {
		_, _, err := extractBytes(t, gzipOf(t, "", "x"), nil)
		require.ErrorContains(t, err, "does not say the name")
	})
}

func FuzzExtractStaysInItsDirectory(f *testing.F) {
	f.Add(zipOf(f, item{"a/b", 0o644, "content"}, item{"l", fs.ModeSymlink | 0o777, "../neighbour"}))
	f.Add(zipOf(f, item{"../neighbour/secret", 0o644, "evil"}))
	f.Add(tarOf(f, item{"a/b", 0o644, "content"}, item{"l", fs.ModeSymlink | 0o777, "../neighbour"}, item{"h", fs.ModeIrregular, "a/b"}))
	f.Add(gzipOf(f, "a/b", "content"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, _ = extractBytes(t, data, nil)
	})
}
