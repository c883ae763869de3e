package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
)

// fileSystem is what the file storage does with files. Names are relative to one directory.
type fileSystem interface {
	// create makes an empty file for writing, in the place of an existing one.
	create(name string) (file, error)
	rename(from, to string) error
	remove(name string) error
	// read returns the content of a file, or an error if it is larger than limit bytes.
	read(name string, limit int64) ([]byte, error)
	// list returns the names of all files.
	list() ([]string, error)
	// sync makes created, renamed and removed names durable.
	sync() error
}

type file interface {
	io.WriteCloser
	// Sync makes the written content durable.
	Sync() error
}

// directory is the fileSystem of a directory of the operating system. The root keeps every access
// inside it, whatever a name says and whatever links lie there.
type directory struct {
	root *os.Root
}

func openDirectory(path string) (directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return directory{}, err
	}
	// A directory that was there before may be open to others.
	if err := os.Chmod(path, 0o700); err != nil {
		return directory{}, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return directory{}, err
	}
	return directory{root: root}, nil
}

func (d directory) create(name string) (file, error) {
	return d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (d directory) rename(from, to string) error { return d.root.Rename(from, to) }

func (d directory) remove(name string) error { return d.root.Remove(name) }

func (d directory) read(name string, limit int64) ([]byte, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return content, nil
}

func (d directory) list() ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if entry.Type().IsRegular() {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

func (d directory) sync() error {
	if runtime.GOOS == "windows" {
		// Windows has no such operation: NTFS journals names by itself.
		return nil
	}
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
