package connector

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// KnownHosts remembers, for each instance, the host key (the TLS key with WinRM over HTTPS) of the
// first connection on which the login succeeded; from then on the instance is refused with any other.
// It is kept in memory, and the caller keeps one for as long as its instances live. The zero value is
// ready, and it may be used concurrently.
type KnownHosts struct {
	mu   sync.Mutex
	pins map[pinName]hostKey
}

type pinName struct {
	instance string
	protocol provider.Protocol
}

// Forget drops the keys of an instance, to be called when it is gone or is rebuilt on purpose.
func (k *KnownHosts) Forget(instance string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range k.pins {
		if name.instance == instance {
			delete(k.pins, name)
		}
	}
}

// get returns the pinned key or the zero value.
func (k *KnownHosts) get(name pinName) hostKey {
	if k == nil {
		return hostKey{}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pins[name]
}

// pin remembers the key and returns the one that counts: when two first connections race, one wins.
func (k *KnownHosts) pin(name pinName, key hostKey) hostKey {
	if k == nil {
		return key
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if pinned, ok := k.pins[name]; ok {
		return pinned
	}
	if k.pins == nil {
		k.pins = make(map[pinName]hostKey)
	}
	k.pins[name] = key
	return key
}

// hostKey is a public key by its type and the SHA-256 hash of its encoding.
type hostKey struct {
	algorithm   string
	fingerprint string
}

func sshHostKey(key ssh.PublicKey) hostKey {
	return hostKey{algorithm: key.Type(), fingerprint: ssh.FingerprintSHA256(key)}
}

func (k hostKey) String() string { return k.algorithm + " " + k.fingerprint }

// HostKeyError says that an instance presented another key than the one it is known by. Nothing was
// sent to it that could be used to log in elsewhere.
type HostKeyError struct {
	Instance string
	Address  string
	// FromPlugin tells who knows better: the plugin gave the expected keys, or the key was seen on
	// an earlier connection.
	FromPlugin bool
	// Expected and Presented are key types with SHA-256 fingerprints.
	Expected  []string
	Presented string
}

// Error names the instance and the keys, and says what to do.
func (e *HostKeyError) Error() string {
	expected := strings.Join(e.Expected, " or ")
	if e.FromPlugin {
		return fmt.Sprintf("host key of instance %q at %s is not one the plugin gave: got %s, expected %s: "+
			"refusing to connect; check that the address belongs to the instance, or correct the host keys in the plugin",
			e.Instance, e.Address, e.Presented, expected)
	}
	return fmt.Sprintf("host key of instance %q at %s has changed: got %s, expected %s as seen before: "+
		"refusing to connect; delete the instance if it was rebuilt, and suspect an interception if it was not",
		e.Instance, e.Address, e.Presented, expected)
}

// hostCheck decides about the keys that one instance presents to one client.
type hostCheck struct {
	name    pinName
	address string
	given   []hostKey
	known   *KnownHosts

	mu   sync.Mutex
	seen hostKey
}

func newHostCheck(info provider.ConnectInfo, protocol provider.Protocol, address string, known *KnownHosts) (*hostCheck, error) {
	given, err := parseHostKeys(info.HostKeys)
	if err != nil {
		return nil, fmt.Errorf("instance %q: %w", info.ID, err)
	}
	check := &hostCheck{
		name:    pinName{instance: info.ID, protocol: protocol},
		address: address,
		given:   given,
		known:   known,
	}
	if info.ID == "" {
		check.name.instance = address
	}
	return check, nil
}

// expected returns the keys of which one must be presented; none means that any is accepted.
func (c *hostCheck) expected() []hostKey {
	if len(c.given) > 0 {
		return c.given
	}
	if pinned := c.known.get(c.name); pinned != (hostKey{}) {
		return []hostKey{pinned}
	}
	return nil
}

// verify compares a presented key with the expected ones.
func (c *hostCheck) verify(key hostKey) error {
	expected := c.expected()
	for _, other := range expected {
		if other == key {
			return nil
		}
	}
	if len(expected) > 0 {
		return c.refuse(key, expected)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = key
	return nil
}

// trust pins the key that verify accepted last. It is called after the login: while an instance
// boots, its first keys may still be replaced.
func (c *hostCheck) trust() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == (hostKey{}) {
		return nil
	}
	if pinned := c.known.pin(c.name, c.seen); pinned != c.seen {
		return c.refuse(c.seen, []hostKey{pinned})
	}
	return nil
}

func (c *hostCheck) refuse(key hostKey, expected []hostKey) error {
	refusal := &HostKeyError{
		Instance:   c.name.instance,
		Address:    c.address,
		FromPlugin: len(c.given) > 0,
		Presented:  key.String(),
	}
	for _, other := range expected {
		refusal.Expected = append(refusal.Expected, other.String())
	}
	return refusal
}

func (c *hostCheck) callback(_ string, _ net.Addr, key ssh.PublicKey) error {
	return c.verify(sshHostKey(key))
}

// algorithms puts the types of the expected keys first, since a server may have several keys and
// chooses by the client's order. The others stay, to get the unexpected key and name it in the error.
// Certificates are left out: they are renewed while the key stays, and no authority is configured.
func (c *hostCheck) algorithms() []string {
	var preferred []string
	for _, key := range c.expected() {
		if key.algorithm == ssh.KeyAlgoRSA {
			preferred = append(preferred, ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512)
			continue
		}
		preferred = append(preferred, key.algorithm)
	}
	preferred = append(preferred, ssh.KeyAlgoED25519)

	var algorithms []string
	for _, algorithm := range slices.Concat(preferred, ssh.SupportedAlgorithms().HostKeys) {
		if !slices.Contains(algorithms, algorithm) && !strings.Contains(algorithm, "-cert-") {
			algorithms = append(algorithms, algorithm)
		}
	}
	return algorithms
}

// parseHostKeys reads keys in authorized_keys form; each element may have several lines.
func parseHostKeys(texts []string) ([]hostKey, error) {
	var keys []hostKey
	for i, text := range texts {
		for rest := []byte(text); len(bytes.TrimSpace(rest)) > 0; {
			key, _, _, next, err := ssh.ParseAuthorizedKey(rest)
			if err != nil {
				return nil, fmt.Errorf("host key number %d given by the plugin is not in authorized_keys form: %w", i+1, err)
			}
			if _, isCertificate := key.(*ssh.Certificate); isCertificate {
				return nil, errors.New("the plugin gave a host certificate: give the plain host key")
			}
			keys = append(keys, sshHostKey(key))
			rest = next
		}
	}
	return keys, nil
}
