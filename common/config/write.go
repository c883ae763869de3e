package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// writeFile replaces a file in one step if it can: its directory may be closed to this user, and the file may be a mount
// of its own, as in containers. Then what is in the file is replaced.
func writeFile(path string, data []byte) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return swapFile(path, data, nil)
	}
	if err != nil {
		return err
	}
	err = swapFile(path, data, info)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.EROFS) {
		if overwrite(path, data) == nil {
			return nil
		}
	}
	return err
}

// swapFile puts a new file in the place of the one that former describes, which may be nil.
func swapFile(path string, data []byte, former fs.FileInfo) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".config-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(data)
	if err == nil && former != nil {
		err = likeFormer(temp, former)
	}
	if err == nil {
		err = temp.Sync()
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// overwrite replaces what is in a file, or puts it back. What is there is not thrown away first, as the disk may be full.
func overwrite(path string, data []byte) error {
	former, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if err = fill(file, data); err != nil {
		err = errors.Join(err, fill(file, former))
	}
	return errors.Join(err, file.Close())
}

func fill(file *os.File, data []byte) error {
	if _, err := file.WriteAt(data, 0); err != nil {
		return err
	}
	if err := file.Truncate(int64(len(data))); err != nil {
		return err
	}
	return file.Sync()
}
