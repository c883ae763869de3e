package connector

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// sshd is a real OpenSSH server on a loopback port.
type sshd struct {
	user    string
	dir     string
	address string
	key     []byte
	// hostKeys are the public host keys by type, in authorized_keys form.
	hostKeys map[string]string
	process  *exec.Cmd
}

// newSSHD starts a server with additional lines for its configuration, to log in to as root.
func newSSHD(t testing.TB, settings ...string) *sshd {
	s := prepareSSHD(t, "root")
	s.start(t, settings...)
	t.Cleanup(s.stop)
	return s
}

// newSSHDWithUser starts a server that has an account of its own besides root.
func newSSHDWithUser(t testing.TB, password string, settings ...string) *sshd {
	hash, err := exec.Command("openssl", "passwd", "-6", password).Output()
	require.NoError(t, err, "this test needs openssl")
	s := prepareSSHD(t, "tester")
	passwd := "root:x:0:0::/root:/bin/sh\nsshd:x:101:65534::/run/sshd:/usr/sbin/nologin\ntester:x:64999:64999::/:/bin/sh\n"
	shadow := "root:*:20000::::::\nsshd:!:20000::::::\ntester:" + strings.TrimSpace(string(hash)) + ":20000::::::\n"
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "passwd"), []byte(passwd), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "shadow"), []byte(shadow), 0o600))
	s.start(t, settings...)
	t.Cleanup(s.stop)
	return s
}

func prepareSSHD(t testing.TB, user string) *sshd {
	s := &sshd{user: user, dir: t.TempDir(), address: freeAddress(t), hostKeys: make(map[string]string)}
	private, public := newKey(t)
	s.key = private
	// The server reads authorized_keys as the user.
	require.NoError(t, os.Chmod(filepath.Dir(s.dir), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "authorized_keys"), []byte(public), 0o644))
	s.makeHostKeys(t)
	return s
}

func freeAddress(t testing.TB) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func (s *sshd) makeHostKeys(t testing.TB) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)

	for _, key := range []any{edwards, elliptical, old} {
		block, err := ssh.MarshalPrivateKey(key, "")
		require.NoError(t, err)
		signer, err := ssh.NewSignerFromKey(key)
		require.NoError(t, err)
		name := signer.PublicKey().Type()
		s.hostKeys[name] = string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, name), pem.EncodeToMemory(block), 0o600))
	}
}

func (s *sshd) start(t testing.TB, settings ...string) {
	binary, err := exec.LookPath("sshd")
	if err != nil {
		binary = "/usr/sbin/sshd"
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatal("this test needs a real sshd: install the package openssh-server")
	}
	require.Zero(t, os.Getuid(), "this test starts an sshd, which needs root")
	require.NoError(t, os.MkdirAll("/run/sshd", 0o755), "sshd separates its privileges there")

	host, port, err := net.SplitHostPort(s.address)
	require.NoError(t, err)
	config := strings.Join(settings, "\n") + fmt.Sprintf(`
ListenAddress %s
Port %s
AuthorizedKeysFile %s/authorized_keys
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 1000
LogLevel VERBOSE
`, host, port, s.dir)
	for name := range s.hostKeys {
		config += "HostKey " + filepath.Join(s.dir, name) + "\n"
	}
	file := filepath.Join(s.dir, "sshd_config")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))

	s.process = exec.Command(binary, "-D", "-e", "-f", file)
	s.process.SysProcAttr = &syscall.SysProcAttr{}
	if s.user != "root" {
		// The accounts are only seen in a mount namespace of the server's own.
		const script = `for f in passwd shadow; do mount --bind "$0/$f" "/etc/$f" || exit 1; done; exec "$@"`
		s.process.Args = append([]string{"sh", "-c", script, s.dir}, s.process.Args...)
		s.process.Path, err = exec.LookPath("sh")
		require.NoError(t, err)
		s.process.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS
	}
	require.NoError(t, s.process.Start())
}

// stop kills the server and its connections.
func (s *sshd) stop() {
	children := s.connections()
	s.process.Process.Kill()
	for _, pid := range children {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	s.process.Wait()
}

// connections are the processes that serve connections.
func (s *sshd) connections() []int {
	var children []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// pid (command) state parent ...
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if fields[1] == strconv.Itoa(s.process.Process.Pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			children = append(children, pid)
		}
	}
	return children
}

func (s *sshd) signalConnections(t testing.TB, signal syscall.Signal) {
	children := s.connections()
	require.NotEmpty(t, children)
	for _, pid := range children {
		require.NoError(t, syscall.Kill(pid, signal))
	}
}

func (s *sshd) info() provider.ConnectInfo {
	return provider.ConnectInfo{
		ID:           "i-1",
		InternalAddr: s.address,
		ConnectorConfig: provider.ConnectorConfig{
			Protocol: provider.ProtocolSSH,
			Username: s.user,
			Key:      s.key,
			Timeout:  time.Minute,
		},
	}
}

// connect returns a client that is closed before the server is stopped.
func (s *sshd) connect(t testing.TB) *sshClient {
	client, err := DialSSH(t.Context(), s.info(), DialOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// listenUnix serves a Unix socket and returns its path.
func listenUnix(t testing.TB, serve func(*net.UnixConn)) string {
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return path
}
