package pluginartifact

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory for decompressing.
const maxWindow = 64 << 20

// extract unpacks the regular files of a layer, a tar archive that may be compressed. It never writes
// outside of into.
func extract(layer io.Reader, into string) error {
	archive, done, err := decompress(layer)
	if err != nil {
		return fmt.Errorf("decompressing the layer: %w", err)
	}
	defer done()
	root, err := os.OpenRoot(into)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxContent)
	// The archive's own bytes are bounded too: headers need no files.
	entries := tar.NewReader(io.LimitReader(archive, maxContent+maxContent/8))
	for files := 0; ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the layer: %w", err)
		}
		if entry.Typeflag != tar.TypeReg {
			continue
		}
		name, err := fileName(entry.Name)
		if err != nil {
			return err
		}
		if files++; files > maxFiles {
			return fmt.Errorf("the layer has more than %d files", maxFiles)
		}
		if left -= entry.Size; entry.Size < 0 || left < 0 {
			return fmt.Errorf("the layer's files have more than %d bytes", maxContent)
		}
		if err := writeEntry(root, name, entry, entries); err != nil {
			return fmt.Errorf("unpacking %q: %w", entry.Name, err)
		}
	}
}

// fileName is where a file of a layer belongs. Layers of Windows images keep files below Files/.
func fileName(name string) (string, error) {
	local := strings.TrimPrefix(strings.TrimPrefix(name, "./"), "Files/")
	if !strings.HasPrefix(local, "plugin") {
		return "", fmt.Errorf("the layer has the file %q: names of plugin files begin with plugin", name)
	}
	local = strings.TrimPrefix(local, "plugin/")
	if path.Clean(local) != local || !filepath.IsLocal(filepath.FromSlash(local)) || strings.Contains(local, `\`) {
		return "", fmt.Errorf("the layer has the file %q, whose name leads elsewhere", name)
	}
	return filepath.FromSlash(local), nil
}

func writeEntry(root *os.Root, name string, entry *tar.Header, body io.Reader) error {
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	// Bits beyond permissions are not the publisher's to give.
	mode := os.FileMode(entry.Mode) & 0o755
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, body)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// decompress looks at the first bytes, whatever the media type says.
func decompress(layer io.Reader) (io.Reader, func(), error) {
	buffered := bufio.NewReader(layer)
	magic, err := buffered.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case strings.HasPrefix(string(magic), "\x1f\x8b"):
		reader, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, nil, err
		}
		return reader, func() { _ = reader.Close() }, nil
	case string(magic) == "\x28\xb5\x2f\xfd":
		reader, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, nil, err
		}
		return reader, reader.Close, nil
	default:
		return buffered, func() {}, nil
	}
}

// drain reads what unpacking left.
func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}
