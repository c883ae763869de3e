package connector

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/bodgit/ntlmssp"
)

// Without TLS, the messages of an NTLM login are sealed: a multipart message has the length of the
// clear text in its first part and the signature followed by the sealed text in its second.

const (
	soapType   = "application/soap+xml;charset=UTF-8"
	sealedType = `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="Encrypted Boundary"`

	sealBoundary     = "--Encrypted Boundary"
	sealOctets       = "Content-Type: application/octet-stream"
	sealSignatureLen = 16
)

var errSealed = errors.New("the server's answer is not a sealed message")

// seal encrypts a message for the wire.
func seal(session *ntlmssp.SecuritySession, message []byte) ([]byte, error) {
	sealed, signature, err := session.Wrap(message)
	if err != nil {
		return nil, fmt.Errorf("sealing a message: %w", err)
	}

	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\r\n\tContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n", sealBoundary)
	fmt.Fprintf(&b, "\tOriginalContent: type=%s;Length=%d\r\n", soapType, len(message))
	fmt.Fprintf(&b, "%s\r\n\t%s\r\n", sealBoundary, sealOctets)
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(signature))))
	b.Write(signature)
	b.Write(sealed)
	fmt.Fprintf(&b, "%s--\r\n", sealBoundary)
	return b.Bytes(), nil
}

// unseal decrypts a message from the wire.
func unseal(session *ntlmssp.SecuritySession, body []byte) ([]byte, error) {
	signature, sealed, err := splitSealed(body)
	if err != nil {
		return nil, err
	}
	message, err := session.Unwrap(sealed, signature)
	if err != nil {
		return nil, fmt.Errorf("unsealing the server's answer: %w", err)
	}
	return message, nil
}

// splitSealed finds the signature and the sealed text. The sealed text may contain anything, so its
// end is looked for from behind.
func splitSealed(body []byte) (signature, sealed []byte, err error) {
	head, octets, found := bytes.Cut(body, []byte(sealOctets))
	if !found || !bytes.HasPrefix(bytes.TrimSpace(head), []byte(sealBoundary)) {
		return nil, nil, errSealed
	}
	octets, found = bytes.CutPrefix(octets, []byte("\r\n"))
	end := bytes.LastIndex(octets, []byte(sealBoundary))
	if !found || end < 4 {
		return nil, nil, errSealed
	}
	octets = octets[:end]
	if binary.LittleEndian.Uint32(octets) != sealSignatureLen || len(octets) < 4+sealSignatureLen {
		return nil, nil, errSealed
	}
	return octets[4 : 4+sealSignatureLen], octets[4+sealSignatureLen:], nil
}

// isSealed reports whether a Content-Type header announces a sealed message.
func isSealed(contentType string) bool {
	return strings.HasPrefix(strings.ToLower(contentType), "multipart/encrypted")
}

// The flags of an NTLM challenge without which the session would not be confidential.
const (
	ntlmSeal                    = 0x00000020
	ntlmExtendedSessionSecurity = 0x00080000
	ntlm128                     = 0x20000000
	ntlmStrong                  = ntlmSeal | ntlmExtendedSessionSecurity | ntlm128

	ntlmFlagsOffset = 20
)

// checkChallenge refuses a challenge that would give a session without strong encryption.
func checkChallenge(challenge []byte) error {
	if len(challenge) < ntlmFlagsOffset+4 {
		return errors.New("the server's NTLM challenge is too short")
	}
	if binary.LittleEndian.Uint32(challenge[ntlmFlagsOffset:])&ntlmStrong != ntlmStrong {
		return errors.New("the server does not agree to 128-bit NTLM encryption: use winrm+https")
	}
	return nil
}
