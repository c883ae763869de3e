//go:build unix

package supervisor

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
)

func TestAddressesThatAreNoneAreRefused(t *testing.T) {
	for _, address := range []string{
		"", "7777", "localhost:7777", "127.0.0.1:7777", "tcp://localhost", "tcp://localhost:7777/path", "tcp://localhost:seven",
		"http://localhost:7777", "unix://", "unix://relative", "unix://relative/path", "unix:relative", "/run/wrapper.sock",
	} {
		listener, err := Listen(address, silent())
		require.ErrorContains(t, err, "listening on "+address, address)
		require.Nil(t, listener, address)
	}
}

func TestOnlyAPortThatTheNetworkReachesIsWarnedOf(t *testing.T) {
	for address, warned := range map[string]bool{
		"tcp://localhost:0": false,
		"tcp://127.0.0.1:0": false,
		"tcp://:0":          true,
		"tcp://0.0.0.0:0":   true,
		"unix://" + filepath.Join(t.TempDir(), "s"): false,
	} {
		log, hook := logtest.NewNullLogger()
		listener, err := Listen(address, log)
		require.NoError(t, err, address)
		require.NoError(t, listener.Close())
		text := logged(t, hook)
		require.Contains(t, text, listener.Addr().String())
		if warned {
			require.Contains(t, text, "from the network", address)
		} else {
			require.NotContains(t, text, "from the network", address)
		}
	}
}

func TestAPortInUseIsRefused(t *testing.T) {
	first, err := Listen("tcp://127.0.0.1:0", silent())
	require.NoError(t, err)
	defer first.Close()
	_, err = Listen("tcp://"+first.Addr().String(), silent())
	require.ErrorContains(t, err, "in use")
}

func TestTheSocketOfADeadWrapperIsReplacedAndThatOfALivingOneIsNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wrapper.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	dead.SetUnlinkOnClose(false)
	require.NoError(t, dead.Close())
	require.FileExists(t, path)

	living, err := Listen("unix://"+path, silent())
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	_, err = Listen("unix://"+path, silent())
	require.ErrorContains(t, err, "another process listens there")
	conn, err := net.Dial("unix", path)
	require.NoError(t, err, "the refused one broke the living one")
	require.NoError(t, conn.Close())
	require.NoError(t, living.Close())
	require.NoFileExists(t, path)
}

func TestAFileThatIsNoSocketIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	_, err := Listen("unix://"+path, silent())
	require.ErrorContains(t, err, "no socket")
	require.FileExists(t, path)
}
