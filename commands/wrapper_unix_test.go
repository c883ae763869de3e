//go:build unix

package commands_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// wrapped is a wrapper in this process, and the stubborn command that it started.
type wrapped struct {
	t *testing.T
	// lines are what the command prints.
	lines *bufio.Reader
	ended chan error
}

// wrap starts a wrapper with arguments, and waits for the command that it starts.
func wrap(t *testing.T, ctx context.Context, args ...string) *wrapped {
	t.Helper()
	t.Setenv(stubbornEnv, "yes")
	r, stdout, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	require.NoError(t, r.SetReadDeadline(time.Now().Add(time.Minute)))
	app := commands.New(commands.Environment{Version: version.Get(), Stdin: strings.NewReader(""), Stdout: stdout, Stderr: io.Discard})
	w := &wrapped{t: t, lines: bufio.NewReader(r), ended: make(chan error)}
	go func() {
		err := app.Run(ctx, append([]string{"gitlab-runner", "wrapper", "--grpc-listen", "unix://" + filepath.Join(t.TempDir(), "s")}, args...))
		_ = stdout.Close()
		w.ended <- err
	}()
	w.shows("ready")
	return w
}

// shows waits for a line.
func (w *wrapped) shows(want string) {
	w.t.Helper()
	line, err := w.lines.ReadString('\n')
	require.NoError(w.t, err)
	require.Equal(w.t, want+"\n", line)
}

// isGone requires that the command, and whatever else could write, has ended.
func (w *wrapped) isGone() {
	w.t.Helper()
	rest, err := io.ReadAll(w.lines)
	require.NoError(w.t, err)
	require.Empty(w.t, rest)
}

func TestTheWrapperPassesOnWhatItGetsAndEndsAtASecondSignal(t *testing.T) {
	w := wrap(t, context.Background(), "--process-termination-timeout", "1h", "--", "run")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	w.shows("hangup")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGINT))
	w.shows("terminated")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGQUIT))
	err := <-w.ended
	require.ErrorContains(t, err, "was killed")
	require.ErrorContains(t, err, "a second time")
	w.isGone()
}

func TestTheWrapperFailsWhenTheCommandDoesNotEndInTime(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	w := wrap(t, ctx, "--process-termination-timeout", "50ms", "gitlab-runner", "run", "--grpc-listen", "of the command")
	stop()
	err := <-w.ended
	require.ErrorContains(t, err, "50ms")
}

func TestTheWrapperSpeaksToTheInitSystemItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	system, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer system.Close()
	require.NoError(t, system.SetReadDeadline(time.Now().Add(time.Minute)))
	t.Setenv("NOTIFY_SOCKET", path)
	ctx, stop := context.WithCancel(context.Background())
	w := wrap(t, ctx, "--process-termination-timeout", "0s", "--", "run")
	says := func(want string) {
		text := make([]byte, 1024)
		n, err := system.Read(text)
		require.NoError(t, err)
		require.Contains(t, string(text[:n]), want)
	}
	says("READY=1")
	stop()
	says("STOPPING=1")
	require.Error(t, <-w.ended)
}
