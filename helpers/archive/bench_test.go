package archive_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/archive"
)

// mixedTree makes what a build leaves: many small files, some large ones, a third of it not
// compressible.
func mixedTree(b *testing.B, size int) (dir string) {
	b.Helper()
	dir = b.TempDir()
	write := func(name string, content []byte) {
		full := filepath.Join(dir, name)
		require.NoError(b, os.MkdirAll(filepath.Dir(full), 0o755))
		require.NoError(b, os.WriteFile(full, content, 0o644))
	}
	source, random := text(4<<20, 1), noise(4<<20, 2)
	done := 0
	for i := 0; done < size; i++ {
		length := []int{900, 4_000, 9_000, 30_000, 120_000, 1_500_000}[i%6]
		content := source
		if i/6%3 == 2 {
			content = random
		}
		offset := i * 7919 % (len(content) - length)
		write(fmt.Sprintf("d%d/e%d/f%d", i%17, i%101, i), content[offset:offset+length])
		done += length
	}
	return dir
}

const benchmarkSize = 256 << 20

func BenchmarkCreate(b *testing.B) {
	dir := mixedTree(b, benchmarkSize)
	all := names(b, dir)
	root := openRoot(b, dir)
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd} {
		b.Run(string(format), func(b *testing.B) {
			b.SetBytes(benchmarkSize)
			for b.Loop() {
				counter := &counting{}
				require.NoError(b, archive.Create(b.Context(), counter, root, all, archive.Options{Format: format}))
				b.ReportMetric(float64(counter.n)/benchmarkSize, "ratio")
			}
		})
	}
	b.Run("the zip program", func(b *testing.B) {
		b.SetBytes(benchmarkSize)
		for b.Loop() {
			cmd := exec.Command("zip", "-qry", "-", ".")
			cmd.Dir = dir
			counter := &counting{}
			cmd.Stdout = counter
			require.NoError(b, cmd.Run())
			b.ReportMetric(float64(counter.n)/benchmarkSize, "ratio")
		}
	})
}

func BenchmarkExtract(b *testing.B) {
	dir := mixedTree(b, benchmarkSize)
	all := names(b, dir)
	for _, format := range []archive.Format{archive.Zip, archive.ZipZstd, archive.TarZstd} {
		file := filepath.Join(b.TempDir(), "archive")
		f, err := os.Create(file)
		require.NoError(b, err)
		require.NoError(b, archive.Create(b.Context(), f, openRoot(b, dir), all, archive.Options{Format: format}))
		b.Run(string(format), func(b *testing.B) {
			b.SetBytes(benchmarkSize)
			for b.Loop() {
				into := b.TempDir()
				require.NoError(b, archive.Extract(b.Context(), f, openRoot(b, into), archive.ExtractOptions{}))
			}
		})
		if format == archive.Zip {
			b.Run("the unzip program", func(b *testing.B) {
				b.SetBytes(benchmarkSize)
				for b.Loop() {
					require.NoError(b, exec.Command("unzip", "-qo", file, "-d", b.TempDir()).Run())
				}
			})
		}
		_ = f.Close()
	}
}

type counting struct{ n int64 }

func (c *counting) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

var _ io.Writer = (*counting)(nil)
