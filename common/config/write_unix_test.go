//go:build unix

package config_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// resave saves a file with another value, and requires that the value is in what path names then.
func resave(t *testing.T, path string) {
	t.Helper()
	file, err := config.Load(path)
	require.NoError(t, err)
	file.Concurrent++
	require.NoError(t, file.Save())
	again, err := config.Load(path)
	require.NoError(t, err)
	require.Equal(t, file.Concurrent, again.Concurrent)
}

func TestAFileThatIsSavedThroughALinkStaysWhereItIs(t *testing.T) {
	target, link := write(t, "concurrent = 3"), filepath.Join(t.TempDir(), "config.toml")
	require.NoError(t, os.Symlink(target, link))
	resave(t, link)
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, info.Mode().Type())
	file, err := config.Load(target)
	require.NoError(t, err)
	require.Equal(t, 4, file.Concurrent)
}

func TestASavedFileStaysItsOwnersAndItsGroups(t *testing.T) {
	for _, c := range []struct{ before, after os.FileMode }{{0o600, 0o600}, {0o640, 0o640}, {0o660, 0o660}, {0o644, 0o640}} {
		path := write(t, "concurrent = 3")
		require.NoError(t, os.Chmod(path, c.before))
		uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
		if uid == 0 {
			uid, gid = 12345, 23456
			require.NoError(t, os.Chown(path, int(uid), int(gid)))
		}
		resave(t, path)
		_, err := config.SystemID(path)
		require.NoError(t, err)
		for file, mode := range map[string]os.FileMode{"config.toml": c.after, ".runner_system_id": 0o600} {
			info, err := os.Stat(filepath.Join(filepath.Dir(path), file))
			require.NoError(t, err)
			require.Equal(t, mode, info.Mode().Perm())
			owner := info.Sys().(*syscall.Stat_t)
			require.Equal(t, []uint32{uid, gid}, []uint32{owner.Uid, owner.Gid}, file)
		}
	}
}

// TestAFileInAClosedFolderIsSaved is the file that root made for the user of the service in a folder of its own.
func TestAFileInAClosedFolderIsSaved(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("no folder is closed to root")
	}
	path := write(t, "concurrent = 3")
	require.NoError(t, os.Chmod(filepath.Dir(path), 0o500))
	defer func() { require.NoError(t, os.Chmod(filepath.Dir(path), 0o700)) }()
	resave(t, path)
}
