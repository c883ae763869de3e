package config_test

import (
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// TestAFileThatIsAMountIsSaved is the file that is handed to a container by itself.
func TestAFileThatIsAMountIsSaved(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root mounts")
	}
	outside, path := write(t, "concurrent = 3"), write(t, "")
	if err := syscall.Mount(outside, path, "", syscall.MS_BIND, ""); err != nil {
		t.Skip("mounting is not allowed here: ", err)
	}
	defer func() { require.NoError(t, syscall.Unmount(path, 0)) }()
	before, err := os.Stat(path)
	require.NoError(t, err)
	resave(t, path)
	file, err := config.Load(path)
	require.NoError(t, err)
	// The text that takes the place of another one may be longer or shorter.
	for _, user := range []string{"somebody with a long name", ""} {
		file.User = user
		require.NoError(t, file.Save())
		again, err := config.Load(path)
		require.NoError(t, err)
		require.Equal(t, user, again.User)
	}
	after, err := os.Stat(path)
	require.NoError(t, err)
	require.True(t, os.SameFile(before, after))
}
