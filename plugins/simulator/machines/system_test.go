//go:build system

package machines

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

func TestAMachineLetsInWhomItIsToldTo(t *testing.T) {
	set, err := New(t.Context(), Options{Name: "machines-" + strings.ToLower(rand.Text()[:6]), MaxSize: 2, Log: hclog.NewNullLogger()})
	require.NoError(t, err)
	defer func() { require.NoError(t, set.Close(context.WithoutCancel(t.Context()), true)) }()
	id, err := set.Launch(t.Context())
	require.NoError(t, err)
	var machine Machine
	require.Eventually(t, func() bool {
		list, err := set.List(t.Context())
		require.NoError(t, err)
		require.Len(t, list, 1)
		machine = list[0]
		return machine.State == Running
	}, 30*time.Second, 50*time.Millisecond)
	require.Equal(t, id, machine.ID)

	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	require.NoError(t, err)
	dial := func() (*ssh.Client, error) {
		return ssh.Dial("tcp", machine.Address+":22", &ssh.ClientConfig{
			User: "ec2-user", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		})
	}
	_, err = dial()
	require.ErrorContains(t, err, "unable to authenticate")
	require.NoError(t, set.Authorize(t.Context(), id, "ec2-user", string(ssh.MarshalAuthorizedKey(signer.PublicKey()))))
	conn, err := dial()
	require.NoError(t, err)
	defer conn.Close()
	session, err := conn.NewSession()
	require.NoError(t, err)
	out, err := session.CombinedOutput("docker version --format '{{.Server.Os}}'")
	require.NoError(t, err, string(out))
	require.Equal(t, "linux\n", string(out))
	require.ErrorContains(t, set.Authorize(t.Context(), id, "not a user", "key"), "useradd")

	withPassword := &ssh.ClientConfig{
		User: "azureuser", Auth: []ssh.AuthMethod{ssh.Password("it's a \"word\"")}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	}
	_, err = ssh.Dial("tcp", machine.Address+":22", withPassword)
	require.ErrorContains(t, err, "unable to authenticate")
	require.NoError(t, set.SetPassword(t.Context(), id, "azureuser", "it's a \"word\""))
	require.Eventually(t, func() bool {
		// The server reads its configuration again in its own time.
		other, err := ssh.Dial("tcp", machine.Address+":22", withPassword)
		return err == nil && other.Close() == nil
	}, 10*time.Second, 50*time.Millisecond)
	require.ErrorContains(t, set.SetPassword(t.Context(), id, "a:b", "x"), "cannot be set")
}
