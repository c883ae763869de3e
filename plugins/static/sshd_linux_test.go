package static

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// server starts a real OpenSSH server on a loopback port, and returns the host to be listed.
func server(t *testing.T, name string) Host {
	t.Helper()
	const binary = "/usr/sbin/sshd"
	if _, err := os.Stat(binary); err != nil {
		t.Fatal("this test needs a real sshd: install the package openssh-server")
	}
	require.Zero(t, os.Getuid(), "this test starts an sshd, which needs root")
	require.NoError(t, os.MkdirAll("/run/sshd", 0o755), "sshd separates its privileges there")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())

	login, hostKey := newKey(t), newKey(t)
	hostKeyPath := writeKey(t, hostKey)
	dir := t.TempDir()
	authorized := filepath.Join(dir, "authorized_keys")
	require.NoError(t, os.WriteFile(authorized, []byte(publicLine(t, login)+"\n"), 0o644))
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	config := filepath.Join(dir, "sshd_config")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, `ListenAddress %s
Port %s
HostKey %s
AuthorizedKeysFile %s
PidFile none
UsePAM no
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
`, host, port, hostKeyPath, authorized), 0o600))
	process := exec.Command(binary, "-D", "-e", "-f", config)
	require.NoError(t, process.Start())
	t.Cleanup(func() {
		_ = process.Process.Kill()
		_ = process.Wait()
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}, 20*time.Second, 20*time.Millisecond, "sshd does not listen")
	return Host{
		Name: name, Addr: address, Username: "root", KeyPath: writeKey(t, login), HostKeys: []string{publicLine(t, hostKey)},
	}
}

func TestAResetCommandRunsOnTheHost(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	one := server(t, "one")
	// It fails until the file is there, as a host that is mended does.
	one.ResetCommand = "echo cannot >&2; rm " + mark
	g := &InstanceGroup{Config: Config{Instances: Hosts{one}, StateFile: filepath.Join(t.TempDir(), "s")}}
	_, err := g.Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
	require.NoError(t, err)
	defer g.Shutdown(t.Context())
	require.NoError(t, g.Heartbeat(t.Context(), "one"))

	n, err := g.Increase(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	info, err := g.ConnectInfo(t.Context(), "one")
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, connector.Run(t.Context(), info, connector.ConnectorOptions{
		RunOptions: connector.RunOptions{Command: "echo hello", Stdout: &out},
	}))
	require.Equal(t, "hello\n", out.String())

	h, err := g.host("one")
	require.NoError(t, err)
	require.ErrorContains(t, g.resetOnce(h), "cannot")
	require.NoError(t, os.WriteFile(mark, nil, 0o600))
	_, err = g.Decrease(t.Context(), []string{"one"})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return states(t, g)["one"] == provider.StateDeleted }, 20*time.Second, 20*time.Millisecond)
	require.NoFileExists(t, mark)
}

func TestProvisioning(t *testing.T) {
	binary := integration.BuildPluginBinary(t, "../cmd/fleeting-plugin-static", "fleeting-plugin-static")
	tests := map[string]Config{
		"without a reset": {},
		"with a reset":    {ResetCommand: "true"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			for i := range 3 {
				c.Instances = append(c.Instances, server(t, fmt.Sprintf("host-%d", i+1)))
			}
			c.StateFile = filepath.Join(t.TempDir(), "s")
			integration.TestProvisioning(t, binary, integration.Config{
				PluginConfig:    InstanceGroup{Config: c},
				ConnectorConfig: provider.ConnectorConfig{Timeout: time.Minute},
				MaxInstances:    3,
			})
		})
	}
}
