package connector

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

func TestOpenSSHRunsCommands(t *testing.T) {
	t.Parallel()
	client := newSSHD(t).connect(t)

	var stdout, stderr bytes.Buffer
	err := client.Run(t.Context(), RunOptions{
		Command: "cat; echo oops >&2; exit 42",
		Stdin:   strings.NewReader("input"),
		Stdout:  &stdout,
		Stderr:  &stderr,
	})
	var exit *ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 42, exit.ExitCode())
	require.Equal(t, "input", stdout.String())
	require.Equal(t, "oops\n", stderr.String())

	require.NoError(t, client.Run(t.Context(), RunOptions{Command: "true"}))
	require.EqualError(t, client.Run(t.Context(), RunOptions{Command: "kill -9 $$"}),
		"Process exited with status 137 from signal KILL")

	stdin, feed := io.Pipe()
	defer feed.Close()
	require.NoError(t, client.Run(t.Context(), RunOptions{Command: "true", Stdin: stdin}),
		"a command may end without reading its input")
}

func TestOpenSSHEndsACancelledCommand(t *testing.T) {
	t.Parallel()
	client := newSSHDWithUser(t, "unused").connect(t)
	const command = "echo $$; exec sleep 1000"

	t.Run("Run", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		output, stdout := io.Pipe()
		pids := make(chan int, 1)
		go func() {
			line, _ := bufio.NewReader(output).ReadString('\n')
			pid, _ := strconv.Atoi(strings.TrimSpace(line))
			pids <- pid
			cancel()
		}()
		err := client.Run(ctx, RunOptions{Command: command, Stdout: stdout})
		require.ErrorIs(t, err, context.Canceled)
		requireProcessEnds(t, <-pids)
	})
	t.Run("DialRun", func(t *testing.T) {
		conn, err := client.DialRun(t.Context(), command)
		require.NoError(t, err)
		line, err := bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		requireProcessEnds(t, pid)
	})
}

func requireProcessEnds(t *testing.T, pid int) {
	require.Positive(t, pid)
	require.Eventually(t, func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH }, 10*time.Second, 10*time.Millisecond)
}

func TestOpenSSHChecksThePassword(t *testing.T) {
	t.Parallel()
	server := newSSHDWithUser(t, "correct horse", "PasswordAuthentication yes")

	info := server.info()
	info.Key, info.Password = nil, "correct horse"
	client, err := Dial(t.Context(), info, DialOptions{})
	require.NoError(t, err)
	require.NoError(t, client.Close())

	info.Password = "battery staple"
	_, err = dialOnce(t, info)
	require.ErrorContains(t, err,
		"ssh: handshake failed: ssh: unable to authenticate, attempted methods [none password], no supported methods remain")
	require.NotContains(t, err.Error(), "staple")
}

func TestOpenSSHIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := newSSHD(t)
	server.stop()

	tried := make(chan struct{})
	var once sync.Once
	result := make(chan error, 1)
	go func() {
		client, err := Dial(t.Context(), server.info(), DialOptions{
			DialFn: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				once.Do(func() { close(tried) })
				return conn, err
			},
		})
		if err == nil {
			client.Close()
		}
		result <- err
	}()
	<-tried
	server.start(t)
	require.NoError(t, <-result)
}

func TestOpenSSHForwardsUnixSockets(t *testing.T) {
	t.Parallel()
	client := newSSHD(t).connect(t)
	path := listenUnix(t, func(conn *net.UnixConn) { io.Copy(conn, conn) })

	var wg sync.WaitGroup
	errs := make(chan error, 50)
	for i := range 50 {
		wg.Go(func() {
			errs <- echoes(client, path, bytes.Repeat([]byte{byte(i)}, 256<<10))
		})
	}
	wg.Wait()
	for range 50 {
		require.NoError(t, <-errs)
	}
}

// echoes sends data through a tunnel of its own and compares what comes back.
func echoes(client *sshClient, path string, data []byte) error {
	conn, err := client.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		conn.Write(data)
		conn.(*tunnel).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("%d bytes came back of %d", len(got), len(data))
	}
	return err
}

func TestOpenSSHForwardsManyBytesUnchanged(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	client := newSSHD(t).connect(t)
	var source [32]byte
	random := func() io.Reader { return io.LimitReader(rand.NewChaCha8(source), size) }
	want := sha256.New()
	io.Copy(want, random())

	t.Run("from the instance", func(t *testing.T) {
		path := listenUnix(t, func(conn *net.UnixConn) { io.Copy(conn, random()) })
		conn, err := client.Dial("unix", path)
		require.NoError(t, err)
		defer conn.Close()
		start, got := time.Now(), sha256.New()
		n, err := io.Copy(got, conn)
		require.NoError(t, err)
		require.EqualValues(t, size, n)
		require.Equal(t, want.Sum(nil), got.Sum(nil))
		t.Logf("%.0f MiB/s", size/float64(1<<20)/time.Since(start).Seconds())
	})
	t.Run("to the instance", func(t *testing.T) {
		sums := make(chan []byte, 1)
		path := listenUnix(t, func(conn *net.UnixConn) {
			got := sha256.New()
			io.Copy(got, conn)
			sums <- got.Sum(nil)
		})
		conn, err := client.Dial("unix", path)
		require.NoError(t, err)
		defer conn.Close()
		start := time.Now()
		_, err = io.Copy(conn, random())
		require.NoError(t, err)
		require.NoError(t, conn.(*tunnel).CloseWrite())
		require.Equal(t, want.Sum(nil), <-sums)
		t.Logf("%.0f MiB/s", size/float64(1<<20)/time.Since(start).Seconds())
	})
}

func TestOpenSSHForwardsTCP(t *testing.T) {
	t.Parallel()
	client := newSSHD(t).connect(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			conn.Write([]byte("hello"))
			conn.Close()
		}
	}()
	conn, err := client.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	got, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	require.NoError(t, conn.Close())

	_, err = client.Dial("tcp", freeAddress(t))
	require.ErrorContains(t, err, "Connection refused")
	require.False(t, IsForwardingRefused(err))
}

func TestOpenSSHThatForwardsNothingStillRunsCommands(t *testing.T) {
	t.Parallel()
	client := newSSHD(t, "AllowStreamLocalForwarding no", "AllowTcpForwarding no").connect(t)
	path := listenUnix(t, func(conn *net.UnixConn) { io.Copy(conn, conn) })

	_, err := client.Dial("unix", path)
	require.True(t, IsForwardingRefused(err), err)
	require.ErrorContains(t, err, "check AllowStreamLocalForwarding in sshd_config")
	_, err = client.Dial("tcp", "127.0.0.1:1")
	require.True(t, IsForwardingRefused(err), err)

	conn, err := client.DialRun(t.Context(), "cat")
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("ping"))
	require.NoError(t, err)
	_, err = io.ReadFull(conn, make([]byte, 4))
	require.NoError(t, err)
}

func TestOpenSSHAnswersForAMissingSocketAsIfItRefused(t *testing.T) {
	t.Parallel()
	client := newSSHD(t).connect(t)
	_, err := client.Dial("unix", "/nonexistent/socket")
	var refusal *ForwardingError
	require.ErrorAs(t, err, &refusal)
	require.False(t, refusal.Certain)
	require.ErrorContains(t, err, "or nothing listens there")
}

func TestOpenSSHWithOneSession(t *testing.T) {
	t.Parallel()
	client := newSSHD(t, "MaxSessions 1").connect(t)
	path := listenUnix(t, func(conn *net.UnixConn) { io.Copy(conn, conn) })

	first, err := client.DialRun(t.Context(), "cat")
	require.NoError(t, err)
	err = client.Run(t.Context(), RunOptions{Command: "true"})
	require.True(t, IsSessionLimit(err), err)
	require.ErrorContains(t, err, "check MaxSessions in sshd_config")
	require.NoError(t, echoes(client, path, []byte("tunnels are no sessions")))

	require.NoError(t, first.Close())
	require.Eventually(t, func() bool {
		return client.Run(context.Background(), RunOptions{Command: "true"}) == nil
	}, 10*time.Second, 10*time.Millisecond)
}

func TestOpenSSHThatIsKilledIsNoticed(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{
		"killed": syscall.SIGKILL,
		"frozen": syscall.SIGSTOP,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newSSHD(t)
			client := server.connect(t)
			path := listenUnix(t, func(conn *net.UnixConn) { io.Copy(conn, conn) })
			conn, err := client.Dial("unix", path)
			require.NoError(t, err)

			start := time.Now()
			server.signalConnections(t, signal)
			_, err = io.ReadAll(conn)
			require.ErrorIs(t, err, ErrConnectionLost)
			<-client.Done()
			require.Less(t, time.Since(start), 5*time.Second)
			require.ErrorIs(t, client.Err(), ErrConnectionLost)
			t.Logf("noticed after %s: %v", time.Since(start).Round(time.Millisecond), client.Err())
		})
	}
}

func TestOpenSSHAnswersKeepalives(t *testing.T) {
	t.Parallel()
	server := newSSHD(t)
	info := server.info()
	info.Keepalive = 10 * time.Millisecond
	client, err := DialSSH(t.Context(), info, DialOptions{})
	require.NoError(t, err)
	defer client.Close()
	require.NoError(t, client.Run(t.Context(), RunOptions{Command: "sleep 1"}))
	require.NoError(t, client.Err())
}

func TestOpenSSHWithAnotherHostKeyIsRefused(t *testing.T) {
	t.Parallel()
	server := newSSHD(t)
	known := &KnownHosts{}
	client, err := Dial(t.Context(), server.info(), DialOptions{KnownHosts: known})
	require.NoError(t, err)
	require.NoError(t, client.Close())

	server.stop()
	old := server.hostKeys[ssh.KeyAlgoED25519]
	server.makeHostKeys(t)
	server.start(t)
	_, err = Dial(t.Context(), server.info(), DialOptions{KnownHosts: known})
	var refused *HostKeyError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "i-1", refused.Instance)
	require.Equal(t, []string{keyName(t, old)}, refused.Expected)
	require.Equal(t, keyName(t, server.hostKeys[ssh.KeyAlgoED25519]), refused.Presented)
}

func keyName(t *testing.T, line string) string {
	keys, err := parseHostKeys([]string{line})
	require.NoError(t, err)
	return keys[0].String()
}

func TestOpenSSHShowsTheHostKeyThatThePluginGave(t *testing.T) {
	t.Parallel()
	server := newSSHD(t)
	for name, line := range server.hostKeys {
		t.Run(name, func(t *testing.T) {
			info := server.info()
			info.HostKeys = []string{line}
			client, err := Dial(t.Context(), info, DialOptions{})
			require.NoError(t, err)
			require.NoError(t, client.Close())
		})
	}
}
