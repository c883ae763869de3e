package docker

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/internal/sshkey"
)

func TestConnectInfoIsComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})
		info, err := g.ConnectInfo(t.Context(), id)
		require.NoError(t, err)

		require.Equal(t, id, info.ID)
		require.Equal(t, "linux", info.OS)
		require.Equal(t, "amd64", info.Arch)
		require.Equal(t, provider.ProtocolSSH, info.Protocol)
		require.Equal(t, 22, info.ProtocolPort)
		require.Equal(t, "runner", info.Username)
		require.Equal(t, "192.0.2.7", info.InternalAddr)
		require.Equal(t, "192.0.2.7", info.ExternalAddr)

		signer, err := ssh.ParsePrivateKey(info.Key)
		require.NoError(t, err)
		require.Equal(t, string(ssh.MarshalAuthorizedKey(signer.PublicKey())), string(e.containers[id].files[authorizedKeysPath].content))

		host, err := ssh.ParsePrivateKey(e.containers[id].files[hostKeyPath].content)
		require.NoError(t, err)
		require.Equal(t, []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(host.PublicKey())))}, info.HostKeys)
	})
}

func TestTheOperatorsValuesWin(t *testing.T) {
	own, err := sshkey.New()
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g := started(t, e, Config{}, provider.ConnectorConfig{
			OS: "linux", Arch: "arm64", ProtocolPort: 2222, Username: "root", Key: own.Private, Timeout: time.Minute,
		})
		_, err := g.Increase(t.Context(), 1)
		require.NoError(t, err)
		synctest.Wait()
		id := onlyInstance(t, g, provider.StateRunning)
		info, err := g.ConnectInfo(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, provider.ConnectorConfig{
			OS: "linux", Arch: "arm64", Protocol: provider.ProtocolSSH, ProtocolPort: 2222,
			Username: "root", Key: own.Private, Timeout: time.Minute,
		}, info.ConnectorConfig)
		require.Equal(t, own.Public+"\n", string(e.containers[id].files[authorizedKeysPath].content))
	})
}

func TestStaticCredentialsAreLeftToTheOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g := started(t, e, Config{}, provider.ConnectorConfig{UseStaticCredentials: true, Username: "me", Password: "word"})
		_, err := g.Increase(t.Context(), 1)
		require.NoError(t, err)
		synctest.Wait()
		id := onlyInstance(t, g, provider.StateRunning)
		info, err := g.ConnectInfo(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "me", info.Username)
		require.Equal(t, "word", info.Password)
		require.Empty(t, info.Key)
		require.NotContains(t, e.containers[id].files, authorizedKeysPath)
	})
}

func TestThereIsNoConnectInfoForWhatDoesNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{Name: "a"})
		_, foreign := grown(t, e, Config{Name: "b"})
		e.with(id, func(c *fakeContainer) { c.end(1) })
		for name, want := range map[string]string{
			id:        "its container is exited",
			foreign:   `group "a" has no running instance`,
			"unknown": `group "a" has no running instance "unknown"`,
		} {
			_, err := g.ConnectInfo(t.Context(), name)
			require.ErrorContains(t, err, want)
			require.ErrorIs(t, g.Heartbeat(t.Context(), name), provider.ErrInstanceUnhealthy)
		}
	})
}

func TestHeartbeatOfAnInstanceThatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, id := grown(t, newFakeEngine(), Config{})
		require.NoError(t, g.Heartbeat(t.Context(), id))
	})
}
