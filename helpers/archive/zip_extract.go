package archive

import (
	"archive/zip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// maxDirectory is the largest zip directory that is read, as all of it is kept in memory. It has room
// for more than a million files.
const maxDirectory = 256 << 20

// directoryReader limits how much is read while a zip's directory is loaded.
type directoryReader struct {
	r io.ReaderAt
	// loaded lifts the limit. It is set before there is more than one reader.
	loaded bool
	read   int64
}

func (d *directoryReader) ReadAt(p []byte, offset int64) (int, error) {
	if !d.loaded {
		d.read += int64(len(p))
		if d.read > maxDirectory {
			return 0, fmt.Errorf("the directory of the zip archive is larger than %d MiB", maxDirectory>>20)
		}
	}
	return d.r.ReadAt(p, offset)
}

func openZip(f *os.File, size int64) (*zip.Reader, error) {
	directory := &directoryReader{r: f}
	archive, err := zip.NewReader(directory, size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return nil, fmt.Errorf("reading the zip archive: %w", err)
	}
	directory.loaded = true
	return archive, nil
}

func extractZip(ctx context.Context, f *os.File, size int64, out *placer) error {
	archive, err := openZip(f, size)
	if err != nil {
		return err
	}
	inflaters := &sync.Pool{}
	archive.RegisterDecompressor(zip.Deflate, func(r io.Reader) io.ReadCloser { return newInflater(inflaters, r) })
	archive.RegisterDecompressor(methodZstd, zstd.ZipDecompressor(zstd.WithDecoderMaxWindow(maxWindow)))

	group, ctx := errgroup.WithContext(ctx)
	files := make(chan *zip.File)
	group.Go(func() error {
		defer close(files)
		for _, file := range archive.File {
			select {
			case files <- file:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range workers() {
		group.Go(func() error {
			for file := range files {
				if err := extractZipEntry(ctx, file, out); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func extractZipEntry(ctx context.Context, file *zip.File, out *placer) error {
	name, err := safeName(file.Name)
	if err != nil {
		return err
	}
	t := target{name: name, mode: file.Mode().Perm(), modified: file.Modified}
	t.readExtra(file.Extra)
	kind := file.Mode().Type()
	switch {
	case kind == fs.ModeDir || strings.HasSuffix(file.Name, "/"):
		return out.directory(t)
	case kind != 0 && kind != fs.ModeSymlink:
		out.skip(file.Name, "it is neither a file, a directory nor a link")
		return nil
	}
	content, err := file.Open()
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", name, err)
	}
	defer content.Close()
	if kind == fs.ModeSymlink {
		link, err := io.ReadAll(io.LimitReader(content, maxLink+1))
		if err != nil {
			return fmt.Errorf("unpacking %s: %w", name, err)
		}
		return out.link(t, string(link))
	}
	return out.file(ctx, t, content)
}

// readExtra takes what the extra fields say of time and owner.
func (t *target) readExtra(extra []byte) {
	le := binary.LittleEndian
	for len(extra) >= 4 {
		id, size := le.Uint16(extra), int(le.Uint16(extra[2:]))
		extra = extra[4:]
		if size > len(extra) {
			return
		}
		field := extra[:size]
		extra = extra[size:]
		switch {
		case id == extraTime && size >= 5 && field[0]&1 != 0:
			t.modified = time.Unix(int64(int32(le.Uint32(field[1:]))), 0)
		case id == extraOwner && size == 11 && field[0] == 1 && field[1] == 4 && field[6] == 4:
			t.owned = true
			t.uid, t.gid = int(le.Uint32(field[2:])), int(le.Uint32(field[7:]))
		}
	}
}

// inflater is a pooled decompressor.
type inflater struct {
	pool *sync.Pool
	io.ReadCloser
}

func newInflater(pool *sync.Pool, r io.Reader) io.ReadCloser {
	if pooled, ok := pool.Get().(io.ReadCloser); ok {
		// A reader of this package is always a Resetter, and resetting cannot fail.
		_ = pooled.(flate.Resetter).Reset(r, nil)
		return &inflater{pool, pooled}
	}
	return &inflater{pool, flate.NewReader(r)}
}

// Close gives the decompressor back; the zip package reads no more after it.
func (i *inflater) Close() error {
	if i.ReadCloser == nil {
		return nil
	}
	err := i.ReadCloser.Close()
	i.pool.Put(i.ReadCloser)
	i.ReadCloser = nil
	return err
}
