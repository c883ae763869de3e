//go:build system

package system

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// authority issues certificates that no machine trusts by itself.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newAuthority(t *testing.T) *authority {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a := &authority{t: t, key: key, certificate: &x509.Certificate{
		Subject: pkix.Name{CommonName: "the company's authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}}
	der, _ := a.sign(a.certificate, key)
	a.certificate, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return a
}

// sign returns a certificate, and the key in PEM.
func (a *authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) (der, keyPEM []byte) {
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	require.NoError(a.t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	return der, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

// issue makes a certificate for an address of this machine, or for a client that has none.
func (a *authority) issue(use x509.ExtKeyUsage, addresses ...net.IP) (certificate, key []byte) {
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, keyPEM := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "a machine"}, IPAddresses: addresses, ExtKeyUsage: []x509.ExtKeyUsage{use},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, fresh)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM
}

// addresses are those of this machine.
func addresses(t *testing.T) []net.IP {
	found, err := net.InterfaceAddrs()
	require.NoError(t, err)
	var ips []net.IP
	for _, address := range found {
		if network, ok := address.(*net.IPNet); ok {
			ips = append(ips, network.IP)
		}
	}
	return ips
}

func TestJobsOfAGitLabWithItsOwnAuthorityThatAsksForCertificates(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	trusted := x509.NewCertPool()
	trusted.AddCert(a.certificate)
	server, err := tls.X509KeyPair(a.issue(x509.ExtKeyUsageServerAuth, addresses(t)...))
	require.NoError(t, err)
	s := newStage(t, coordinator.Config{TLS: &tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: trusted,
	}})
	certificate, key := a.issue(x509.ExtKeyUsageClientAuth)
	ca := s.file("ca.crt", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})), 0o644)
	keys := fmt.Sprintf("  tls-ca-file = %q\n  tls-cert-file = %q\n  tls-key-file = %q",
		ca, s.file("client.crt", string(certificate), 0o644), s.file("client.key", string(key), 0o600))
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1, Keys: keys}))

	build := s.EnqueueWithSources(coordinator.JobSpec{
		// The user's own commands are told of the certificates, too.
		Script:    []string{"grep -c BEGIN $CI_SERVER_TLS_CA_FILE $CI_SERVER_TLS_CERT_FILE $CI_SERVER_TLS_KEY_FILE", "ls build.sh", "echo result > result"},
		Artifacts: []coordinator.ArtifactSpec{{Paths: []string{"result"}, Type: "archive", Format: "zip"}},
	})
	use := s.EnqueueWithSources(coordinator.JobSpec{Script: []string{"cat result"}, Dependencies: []*coordinator.Job{build}})
	s.AllSucceed(build)
	record := s.Ended(use)
	s.RequireState(record, coordinator.StateSuccess, "")
	require.Contains(t, plain(record), "\nresult\n")
	require.NotContains(t, plain(record), "PRIVATE KEY")
}
