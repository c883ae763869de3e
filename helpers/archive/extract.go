package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	// maxWindow is the largest window of zstd that is accepted; it is that of the zstd program, too.
	maxWindow = 128 << 20
	// maxLink is the longest target of a symbolic link that Linux accepts.
	maxLink = 4096
)

// ErrUnsafeName is wrapped by errors about a name in an archive that leads out of the directory.
var ErrUnsafeName = errors.New("the name leads out of the directory")

// ExtractOptions are how to unpack.
type ExtractOptions struct {
	// Skipped is told of entries that are not made, because they are neither a file, a directory nor
	// a link. It is called from one goroutine at a time; nil is allowed.
	Skipped func(name string, reason string)
}

// Extract unpacks the archive in f, whose format is found by its first bytes, into root. Files that
// exist are replaced. Owners are restored if the process is the super user's; the set-user-ID,
// set-group-ID and sticky bits never are. Symbolic links are made as they are, after everything
// else, so that nothing is written through a link of the archive. The first error ends it; what was
// unpacked until then stays.
func Extract(ctx context.Context, f *os.File, root *os.Root, opts ExtractOptions) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("looking at the archive: %w", err)
	}
	magic := make([]byte, 4)
	n, err := f.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the archive: %w", err)
	}
	magic = magic[:n]
	out := newPlacer(root, opts)
	content := bufio.NewReaderSize(io.NewSectionReader(f, 0, info.Size()), outputBuffer)
	switch {
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		err = extractTarZstd(ctx, content, out)
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		err = extractGzip(ctx, content, out)
	default:
		err = extractZip(ctx, f, info.Size(), out)
	}
	if err != nil {
		return err
	}
	return out.finish(ctx)
}

func extractTarZstd(ctx context.Context, r io.Reader, out *placer) error {
	decoder, err := zstd.NewReader(contextReader{ctx, r}, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(workers()))
	if err != nil {
		return fmt.Errorf("starting zstd: %w", err)
	}
	defer decoder.Close()
	archive := tar.NewReader(decoder)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
		if err := extractTarEntry(ctx, header, archive, out); err != nil {
			return err
		}
	}
}

func extractTarEntry(ctx context.Context, header *tar.Header, content io.Reader, out *placer) error {
	name, err := safeName(header.Name)
	if err != nil {
		return err
	}
	t := target{
		name: name, mode: fs.FileMode(header.Mode).Perm(), modified: header.ModTime,
		owned: true, uid: header.Uid, gid: header.Gid,
	}
	switch header.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return out.file(ctx, t, content)
	case tar.TypeDir:
		return out.directory(t)
	case tar.TypeSymlink:
		return out.link(t, header.Linkname)
	case tar.TypeLink:
		existing, err := safeName(header.Linkname)
		if err != nil {
			return err
		}
		return out.hardLink(t, existing)
	case tar.TypeXGlobalHeader:
		return nil
	default:
		out.skip(header.Name, "it is neither a file, a directory nor a link")
		return nil
	}
}

func extractGzip(ctx context.Context, r *bufio.Reader, out *placer) error {
	decoder, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	for {
		decoder.Multistream(false)
		name := decoder.Comment
		if name == "" {
			name = decoder.Name
		}
		if name == "" {
			return errors.New("the gzip archive does not say the name of its file")
		}
		name, err := safeName(name)
		if err != nil {
			return err
		}
		if err := out.file(ctx, target{name: name, mode: 0o644, modified: decoder.ModTime}, decoder); err != nil {
			return err
		}
		err = decoder.Reset(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive: %w", err)
		}
	}
}
