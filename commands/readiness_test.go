package commands

import (
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

func TestTheInitSystemWaitsAsLongAsEntriesAreVerified(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no such sockets here")
	}
	address := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"}
	socket, err := net.ListenUnixgram(address.Net, address)
	require.NoError(t, err)
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", address.Name)
	log, hook := logtest.NewNullLogger()
	for state, want := range map[manager.ProcessState]string{
		manager.Starting:         "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=starting",
		manager.Running:          "READY=1\nSTATUS=running",
		manager.GracefulShutdown: "STOPPING=1\nSTATUS=graceful-shutdown",
		manager.ForcefulShutdown: "STOPPING=1\nSTATUS=forceful-shutdown",
	} {
		notifyInit(log, state)
		buffer := make([]byte, 1<<10)
		n, err := socket.Read(buffer)
		require.NoError(t, err)
		require.Equal(t, want, string(buffer[:n]))
	}
	require.Greater(t, startExtension, manager.ProgressInterval, "the init system would give up before it is told again")

	t.Setenv("NOTIFY_SOCKET", "")
	notifyInit(log, manager.Running)
	require.Empty(t, hook.AllEntries())
	t.Setenv("NOTIFY_SOCKET", address.Name+".gone")
	notifyInit(log, manager.Running)
	require.Equal(t, logrus.WarnLevel, hook.LastEntry().Level)
}
