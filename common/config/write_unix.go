//go:build unix

package config

import (
	"io/fs"
	"os"
	"syscall"
)

// likeFormer gives a file the owner of the one whose place it takes, and what its group may do. Root may save the
// configuration of a service that runs as somebody else, who must still be able to read it.
func likeFormer(file *os.File, former fs.FileInfo) error {
	if owner, ok := former.Sys().(*syscall.Stat_t); ok {
		if err := file.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return file.Chmod(former.Mode().Perm() &^ 0o007)
}

// giveToOwnerOf gives a file the owner of another one, which only root can do.
func giveToOwnerOf(path string, other fs.FileInfo) error {
	owner, ok := other.Sys().(*syscall.Stat_t)
	if !ok || os.Getuid() != 0 {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}
