package connector

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"

	//lint:ignore SA1019 NTLM is made of it
	"golang.org/x/crypto/md4"
)

// ntlmServer is the server's side of an NTLMv2 login and of the session after it, written from
// [MS-NLMP] and independent of the library that the client uses.
type ntlmServer struct {
	user, domain, password string
	flags                  uint32

	challenge         []byte
	in, out           *rc4.Cipher
	inKey, outKey     []byte
	inCount, outCount uint32
}

// ntlmServerFlags are those of a current Windows.
const ntlmServerFlags = 0xe28a8235

var ntlmSignature = []byte("NTLMSSP\x00")

// begin answers the first message with a challenge.
func (s *ntlmServer) begin(negotiate []byte) ([]byte, error) {
	if len(negotiate) < 16 || !bytes.HasPrefix(negotiate, ntlmSignature) || negotiate[8] != 1 {
		return nil, errors.New("not a negotiate message")
	}
	s.challenge = []byte("12345678")

	name := utf16le("HOST")
	var info []byte
	for id, value := range map[uint16][]byte{1: name, 2: name, 3: utf16le("host.example.com"), 7: make([]byte, 8)} {
		info = binary.LittleEndian.AppendUint16(info, id)
		info = binary.LittleEndian.AppendUint16(info, uint16(len(value)))
		info = append(info, value...)
	}
	info = append(info, 0, 0, 0, 0)

	const head = 56
	m := append([]byte{}, ntlmSignature...)
	m = binary.LittleEndian.AppendUint32(m, 2)
	m = appendField(m, len(name), head)
	m = binary.LittleEndian.AppendUint32(m, s.flags)
	m = append(m, s.challenge...)
	m = append(m, make([]byte, 8)...)
	m = appendField(m, len(info), head+len(name))
	m = append(m, 10, 0, 0x61, 0x4a, 0, 0, 0, 15)
	return append(append(m, name...), info...), nil
}

// finish checks the last message and derives the keys of the session.
func (s *ntlmServer) finish(m []byte) error {
	if len(m) < 64 || !bytes.HasPrefix(m, ntlmSignature) || m[8] != 3 {
		return errors.New("not an authenticate message")
	}
	response, domain, user, key := field(m, 20), field(m, 28), field(m, 36), field(m, 52)
	if !bytes.Equal(user, utf16le(s.user)) || !bytes.Equal(domain, utf16le(s.domain)) || len(response) < 16 {
		return fmt.Errorf("unknown user %q in domain %q", user, domain)
	}

	hash := md4.New()
	hash.Write(utf16le(s.password))
	base := hmacOf(hash.Sum(nil), utf16le(strings.ToUpper(s.user)+s.domain))
	proof := hmacOf(base, s.challenge, response[16:])
	if !hmac.Equal(proof, response[:16]) {
		return errors.New("wrong password")
	}

	exported := make([]byte, 16)
	exchange, _ := rc4.NewCipher(hmacOf(base, proof))
	exchange.XORKeyStream(exported, key)
	derive := func(what string) []byte {
		sum := md5.Sum(append(exported[:16:16], "session key to "+what+" key magic constant\x00"...))
		return sum[:]
	}
	s.inKey, s.outKey = derive("client-to-server signing"), derive("server-to-client signing")
	s.in, _ = rc4.NewCipher(derive("client-to-server sealing"))
	s.out, _ = rc4.NewCipher(derive("server-to-client sealing"))
	return nil
}

func (s *ntlmServer) seal(message []byte) []byte {
	sealed := make([]byte, len(message))
	s.out.XORKeyStream(sealed, message)
	signature := sign(s.out, s.outKey, s.outCount, message)
	s.outCount++

	var b bytes.Buffer
	b.WriteString("--Encrypted Boundary\r\nContent-Type: application/HTTP-SPNEGO-session-encrypted\r\n")
	fmt.Fprintf(&b, "OriginalContent: type=application/soap+xml;charset=UTF-8;Length=%d\r\n", len(message))
	b.WriteString("--Encrypted Boundary\r\nContent-Type: application/octet-stream\r\n")
	b.Write([]byte{16, 0, 0, 0})
	b.Write(signature)
	b.Write(sealed)
	b.WriteString("--Encrypted Boundary--\r\n")
	return b.Bytes()
}

func (s *ntlmServer) unseal(body []byte) ([]byte, error) {
	parts := bytes.SplitN(body, []byte("--Encrypted Boundary\r\n"), 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("%d parts", len(parts))
	}
	octets := bytes.TrimPrefix(parts[2], []byte("\tContent-Type: application/octet-stream\r\n"))
	octets = bytes.TrimSuffix(octets, []byte("--Encrypted Boundary--\r\n"))
	if len(octets) < 20 || !bytes.Equal(octets[:4], []byte{16, 0, 0, 0}) {
		return nil, errors.New("no signature")
	}
	message := make([]byte, len(octets)-20)
	s.in.XORKeyStream(message, octets[20:])
	if !bytes.Equal(octets[4:20], sign(s.in, s.inKey, s.inCount, message)) {
		return nil, errors.New("wrong signature")
	}
	s.inCount++
	if want := fmt.Sprintf("Length=%d\r\n", len(message)); !bytes.Contains(parts[1], []byte(want)) {
		return nil, errors.New("wrong length")
	}
	return message, nil
}

func sign(handle *rc4.Cipher, key []byte, count uint32, message []byte) []byte {
	number := binary.LittleEndian.AppendUint32(nil, count)
	checksum := hmacOf(key, number, message)[:8]
	handle.XORKeyStream(checksum, checksum)
	return append(append([]byte{1, 0, 0, 0}, checksum...), number...)
}

func hmacOf(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, part := range parts {
		h.Write(part)
	}
	return h.Sum(nil)
}

func utf16le(s string) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

func appendField(m []byte, length, offset int) []byte {
	m = binary.LittleEndian.AppendUint16(m, uint16(length))
	m = binary.LittleEndian.AppendUint16(m, uint16(length))
	return binary.LittleEndian.AppendUint32(m, uint32(offset))
}

func field(m []byte, at int) []byte {
	length := int(binary.LittleEndian.Uint16(m[at:]))
	offset := int(binary.LittleEndian.Uint32(m[at+4:]))
	if offset+length > len(m) {
		return nil
	}
	return m[offset : offset+length]
}
