package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const outputBuffer = 1 << 20

func createTarZstd(ctx context.Context, w io.Writer, root *os.Root, names []string, opts Options) error {
	out := bufio.NewWriterSize(w, outputBuffer)
	compressor, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstdLevel(opts.Level)), zstd.WithEncoderConcurrency(workers()))
	if err != nil {
		return fmt.Errorf("starting zstd: %w", err)
	}
	archive := tar.NewWriter(compressor)
	buffer := make([]byte, chunkSize)
	for _, name := range names {
		err = tarEntry(ctx, archive, root, name, buffer, opts)
		if err != nil {
			break
		}
	}
	if err == nil {
		err = archive.Close()
	}
	// The encoder's goroutines end only with Close.
	err = errors.Join(err, compressor.Close())
	if err != nil {
		return err
	}
	return out.Flush()
}

func tarEntry(ctx context.Context, archive *tar.Writer, root *os.Root, name string, buffer []byte, opts Options) error {
	e, ok, err := stat(root, name, opts)
	if err != nil || !ok {
		return err
	}
	var f *os.File
	var size int64
	if e.info.Mode().IsRegular() {
		f, size, ok, err = openEntry(root, e, opts)
		if err != nil || !ok {
			return err
		}
		defer f.Close()
	}
	header, err := tar.FileInfoHeader(e.info, e.target)
	if err != nil {
		return fmt.Errorf("packing %s: %w", e.name, err)
	}
	header.Name = e.name
	header.Uname, header.Gname = "", ""
	// Rounding up, as the tar package does, would make files of the future.
	header.ModTime = e.info.ModTime().Truncate(time.Second)
	if e.info.IsDir() {
		header.Name += "/"
	}
	if f != nil {
		header.Size = size
	}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("packing %s: %w", e.name, err)
	}
	if f == nil {
		return nil
	}
	// A tar has the size before the content: what was added since is left out.
	n, err := io.CopyBuffer(struct{ io.Writer }{archive}, contextReader{ctx, io.LimitReader(f, size)}, buffer)
	if err == nil && n < size {
		err = errors.New("it became shorter meanwhile")
	}
	if err != nil {
		return fmt.Errorf("packing %s: %w", e.name, err)
	}
	return nil
}

func createGzip(ctx context.Context, w io.Writer, root *os.Root, names []string, opts Options) error {
	out := bufio.NewWriterSize(w, outputBuffer)
	compressor, err := gzip.NewWriterLevel(out, deflateLevel(opts.Level))
	if err != nil {
		return fmt.Errorf("starting gzip: %w", err)
	}
	for _, name := range names {
		e, ok, err := stat(root, name, opts)
		if err != nil {
			return err
		}
		if !ok || !e.info.Mode().IsRegular() {
			continue
		}
		f, _, ok, err := openEntry(root, e, opts)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		err = gzipMember(ctx, compressor, out, f, e)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("packing %s: %w", e.name, err)
		}
	}
	return out.Flush()
}

func gzipMember(ctx context.Context, compressor *gzip.Writer, out io.Writer, f io.Reader, e entry) error {
	compressor.Reset(out)
	compressor.ModTime = e.info.ModTime()
	compressor.Name = latin1(path.Base(e.name))
	compressor.Comment = latin1(e.name)
	if _, err := io.Copy(compressor, contextReader{ctx, f}); err != nil {
		return err
	}
	return compressor.Close()
}

// latin1 returns text, or nothing if a gzip header cannot hold it.
func latin1(text string) string {
	for _, r := range text {
		if r == 0 || r > 0xff {
			return ""
		}
	}
	return text
}

func createRaw(ctx context.Context, w io.Writer, root *os.Root, names []string, opts Options) error {
	var files []entry
	for _, name := range names {
		e, ok, err := stat(root, name, opts)
		if err != nil {
			return err
		}
		if ok && e.info.Mode().IsRegular() {
			files = append(files, e)
		}
	}
	if len(files) != 1 {
		return fmt.Errorf("the raw format takes exactly one regular file, not %d", len(files))
	}
	f, _, err := OpenRegular(root, files[0].name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s vanished", files[0].name)
	}
	if err != nil {
		return fmt.Errorf("opening %s: %w", files[0].name, err)
	}
	defer f.Close()
	if _, err := io.Copy(w, contextReader{ctx, f}); err != nil {
		return fmt.Errorf("packing %s: %w", files[0].name, err)
	}
	return nil
}
