package connector

import (
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func checkFor(t testing.TB, id string, given []string, known *KnownHosts) *hostCheck {
	check, err := newHostCheck(provider.ConnectInfo{ID: id, HostKeys: given}, provider.ProtocolSSH, "10.0.0.1:22", known)
	require.NoError(t, err)
	return check
}

func TestHostKeysGivenByThePluginAreEnforced(t *testing.T) {
	right, wrong := newSigner(t).PublicKey(), newSigner(t).PublicKey()
	lines := "# the keys of the instance\n" + string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey())) +
		strings.TrimSpace(string(ssh.MarshalAuthorizedKey(right))) + " root@instance\n"
	known := &KnownHosts{}
	check := checkFor(t, "i-1", []string{"", lines}, known)

	require.NoError(t, check.verify(sshHostKey(right)))
	require.NoError(t, check.trust())

	err := check.verify(sshHostKey(wrong))
	var refused *HostKeyError
	require.ErrorAs(t, err, &refused)
	require.True(t, refused.FromPlugin)
	require.Len(t, refused.Expected, 2)
	require.ErrorContains(t, err, `instance "i-1" at 10.0.0.1:22`)
	require.ErrorContains(t, err, "got ssh-ed25519 "+ssh.FingerprintSHA256(wrong))
	require.ErrorContains(t, err, "or ssh-ed25519 "+ssh.FingerprintSHA256(right))
	require.ErrorContains(t, err, "correct the host keys in the plugin")
}

func TestHostKeyIsTrustedOnFirstUse(t *testing.T) {
	first, second := newSigner(t).PublicKey(), newSigner(t).PublicKey()
	known := &KnownHosts{}

	check := checkFor(t, "i-1", nil, known)
	require.NoError(t, check.verify(sshHostKey(second)), "before a login, no key counts")
	require.NoError(t, check.verify(sshHostKey(first)))
	require.NoError(t, check.trust())

	check = checkFor(t, "i-1", nil, known)
	require.NoError(t, check.verify(sshHostKey(first)))
	require.NoError(t, check.trust())

	err := check.verify(sshHostKey(second))
	var refused *HostKeyError
	require.ErrorAs(t, err, &refused)
	require.False(t, refused.FromPlugin)
	require.EqualError(t, err, `host key of instance "i-1" at 10.0.0.1:22 has changed: got ssh-ed25519 `+
		ssh.FingerprintSHA256(second)+`, expected ssh-ed25519 `+ssh.FingerprintSHA256(first)+
		` as seen before: refusing to connect; delete the instance if it was rebuilt, and suspect an interception if it was not`)

	require.NoError(t, checkFor(t, "i-2", nil, known).verify(sshHostKey(second)), "another instance has its own key")

	known.Forget("i-1")
	require.NoError(t, checkFor(t, "i-1", nil, known).verify(sshHostKey(second)))
}

func TestHostKeyIsNotPinnedWithoutKnownHosts(t *testing.T) {
	check := checkFor(t, "", nil, nil)
	for range 2 {
		require.NoError(t, check.verify(sshHostKey(newSigner(t).PublicKey())))
		require.NoError(t, check.trust())
	}
	require.Equal(t, "10.0.0.1:22", check.name.instance, "without an id, the address names the instance")
}

func TestOneOfTwoFirstHostKeysWins(t *testing.T) {
	known := &KnownHosts{}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		refused int
	)
	var checks []*hostCheck
	for range 8 {
		check := checkFor(t, "i-1", nil, known)
		require.NoError(t, check.verify(sshHostKey(newSigner(t).PublicKey())))
		checks = append(checks, check)
	}
	for _, check := range checks {
		wg.Go(func() {
			if check.trust() != nil {
				mu.Lock()
				defer mu.Unlock()
				refused++
			}
		})
	}
	wg.Wait()
	require.Equal(t, 7, refused)
}

func TestExpectedHostKeyTypesAreAskedForFirst(t *testing.T) {
	known := &KnownHosts{}
	check := checkFor(t, "i-1", nil, known)
	require.Equal(t, ssh.KeyAlgoED25519, check.algorithms()[0])
	for _, algorithm := range check.algorithms() {
		require.NotContains(t, algorithm, "-cert-")
	}

	known.pin(check.name, hostKey{algorithm: ssh.KeyAlgoRSA, fingerprint: "SHA256:x"})
	require.Equal(t, []string{ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoED25519}, check.algorithms()[:3])
}

func TestInvalidHostKeysAreNamed(t *testing.T) {
	good := string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey()))
	for name, text := range map[string]string{
		"no key":      "hello",
		"cut short":   "ssh-ed25519 AAAA",
		"private key": "-----BEGIN OPENSSH PRIVATE KEY-----",
		"comment":     "# none",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DialSSH(t.Context(), provider.ConnectInfo{
				ID: "i-1", InternalAddr: "unreachable", HostKeys: []string{good, text},
			}, DialOptions{})
			require.ErrorContains(t, err, `instance "i-1": host key number 2 given by the plugin is not in authorized_keys form`)
		})
	}
}

func FuzzParseHostKeys(f *testing.F) {
	f.Add(string(ssh.MarshalAuthorizedKey(newSigner(f).PublicKey())))
	f.Add("# comment\nssh-rsa AAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := parseHostKeys([]string{text})
		if err == nil && strings.TrimSpace(text) != "" {
			require.NotEmpty(t, keys, "a text without keys must not switch the check off")
		}
	})
}
