// Package archive packs files of a directory and unpacks them again, in the formats that GitLab's
// artifacts and caches have: zip (deflate or zstd), gzip, raw and tar in zstd.
//
// What it guarantees: nothing outside the given [os.Root] is read or written, whatever names and links
// an archive or the directory has; device files, pipes and sockets are neither packed nor made;
// memory is bounded whatever the sizes of files, and of archives but for a zip's directory, which is
// capped. Free disk space is the only limit to what an archive unpacks to.
//
// It knows nothing of jobs; anything may import it.
package archive

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
)

// Format is how files are packed.
type Format string

// The formats.
const (
	// Zip compresses each file with deflate.
	Zip Format = "zip"
	// ZipZstd is Zip with the zstd method.
	ZipZstd Format = "zipzstd"
	// TarZstd is a tar compressed with zstd.
	TarZstd Format = "tarzstd"
	// Gzip is one gzip member after the other, each a regular file. It keeps neither links nor
	// directories.
	Gzip Format = "gzip"
	// Raw is the content of exactly one regular file.
	Raw Format = "raw"
)

// Level says how hard to compress.
type Level string

// The levels.
const (
	Fastest Level = "fastest"
	Fast    Level = "fast"
	Default Level = "default"
	Slow    Level = "slow"
	Slowest Level = "slowest"
)

// ParseFormat returns the format of the name, Zip for an empty one.
func ParseFormat(name string) (Format, error) {
	formats := []Format{Zip, ZipZstd, TarZstd, Gzip, Raw}
	if name == "" {
		return Zip, nil
	}
	if slices.Contains(formats, Format(name)) {
		return Format(name), nil
	}
	return "", fmt.Errorf("unknown archive format %q; use one of %s", name, list(formats))
}

// ParseLevel returns the level of the name, Default for an empty one.
func ParseLevel(name string) (Level, error) {
	levels := []Level{Fastest, Fast, Default, Slow, Slowest}
	if name == "" {
		return Default, nil
	}
	if slices.Contains(levels, Level(name)) {
		return Level(name), nil
	}
	return "", fmt.Errorf("unknown compression level %q; use one of %s", name, list(levels))
}

func list[T ~string](all []T) string {
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = string(one)
	}
	return strings.Join(names, ", ")
}

// Options are how to pack.
type Options struct {
	// Format of "" is Zip.
	Format Format
	// Level of "" is Default.
	Level Level
	// Skipped is told of names that are not packed, because they vanished meanwhile or are neither a
	// regular file, a directory nor a symbolic link. It is called from one goroutine at a time; nil
	// is allowed.
	Skipped func(name string, reason string)
}

func (o Options) skip(name, reason string) {
	if o.Skipped != nil {
		o.Skipped(name, reason)
	}
}

// Create packs the files of the given names, which are relative to root with slashes, in that order
// into w. Directories are packed without their content. It returns when everything was written or
// with the first error; what was written until then is of no use.
func Create(ctx context.Context, w io.Writer, root *os.Root, names []string, opts Options) error {
	if opts.Level == "" {
		opts.Level = Default
	}
	switch opts.Format {
	case Zip, ZipZstd, "":
		return createZip(ctx, w, root, names, opts)
	case TarZstd:
		return createTarZstd(ctx, w, root, names, opts)
	case Gzip:
		return createGzip(ctx, w, root, names, opts)
	case Raw:
		return createRaw(ctx, w, root, names, opts)
	default:
		return fmt.Errorf("unknown archive format %q", opts.Format)
	}
}

// entry is one file to be packed.
type entry struct {
	name string
	info fs.FileInfo
	// target is that of a symbolic link.
	target string
}

// stat returns the entry of a name; ok is false if it is to be left out.
func stat(root *os.Root, name string, opts Options) (e entry, ok bool, err error) {
	name = path.Clean(name)
	info, err := root.Lstat(name)
	if os.IsNotExist(err) {
		opts.skip(name, "it vanished")
		return entry{}, false, nil
	}
	if err != nil {
		return entry{}, false, fmt.Errorf("looking at %s: %w", name, err)
	}
	e = entry{name: name, info: info}
	switch info.Mode().Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		e.target, err = root.Readlink(name)
		if err != nil {
			return entry{}, false, fmt.Errorf("reading the link %s: %w", name, err)
		}
	default:
		opts.skip(name, "it is neither a file, a directory nor a link")
		return entry{}, false, nil
	}
	return e, true, nil
}

// OpenRegular opens a regular file for reading. It does not wait if the name is that of a pipe.
func OpenRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|openNoWait, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// openEntry opens a regular file; ok is false if it vanished.
func openEntry(root *os.Root, e entry, opts Options) (f *os.File, size int64, ok bool, err error) {
	f, info, err := OpenRegular(root, e.name)
	if os.IsNotExist(err) {
		opts.skip(e.name, "it vanished")
		return nil, 0, false, nil
	}
	if err != nil {
		return nil, 0, false, fmt.Errorf("opening %s: %w", e.name, err)
	}
	return f, info.Size(), true, nil
}

// contextReader fails as soon as its context has ended.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(p)
}

func workers() int {
	return max(1, runtime.GOMAXPROCS(0))
}
