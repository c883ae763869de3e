package docker

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keyPair is an SSH key: the private part in PEM form, the public part as a line of authorized_keys.
type keyPair struct {
	private []byte
	public  string
}

func newKeyPair() (keyPair, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("generating an ssh key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return keyPair{}, fmt.Errorf("encoding an ssh key: %w", err)
	}
	return parseKeyPair(pem.EncodeToMemory(block))
}

// parseKeyPair takes a private key in PEM form. The error text holds nothing of the key.
func parseKeyPair(private []byte) (keyPair, error) {
	signer, err := ssh.ParsePrivateKey(private)
	if err != nil {
		return keyPair{}, fmt.Errorf("reading the private ssh key: %w", err)
	}
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	return keyPair{private: private, public: public}, nil
}
