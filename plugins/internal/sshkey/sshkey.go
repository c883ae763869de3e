// Package sshkey makes and reads the SSH keys by which plugins let the runner in. It is safe for concurrent use.
//
// Plugins import it.
package sshkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"strings"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"golang.org/x/crypto/ssh"
)

// Pair is a key: the private part in PEM form, the public part as a line of authorized_keys without its end.
type Pair struct {
	Private []byte
	Public  string
}

// New makes a key.
func New() (Pair, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("generating an ssh key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return Pair{}, fmt.Errorf("encoding an ssh key: %w", err)
	}
	return Parse(pem.EncodeToMemory(block))
}

// For returns the key that a plugin puts on instances: the operator's, or a new one; none if the operator looks after
// credentials.
func For(c provider.ConnectorConfig) (Pair, error) {
	switch {
	case c.UseStaticCredentials:
		return Pair{}, nil
	case len(c.Key) > 0:
		pair, err := Parse(c.Key)
		if err != nil {
			return Pair{}, fmt.Errorf("connector_config key_path: %w", err)
		}
		return pair, nil
	default:
		return New()
	}
}

// Parse takes a private key in PEM form. The error text holds nothing of the key.
func Parse(private []byte) (Pair, error) {
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return Pair{}, fmt.Errorf("reading the private ssh key: %w", err)
	}
	return Pair{Private: private, Public: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}, nil
}
