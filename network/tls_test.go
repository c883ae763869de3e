package network

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	cert, err := x509.ParseCertificate(raw)
	require.NoError(t, err)
	return &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})}
}

func (a *authority) issue(t *testing.T) (certPEM, keyPEM []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// serveTLS starts a GitLab that always has a job, and says which client certificate it saw.
func serveTLS(t *testing.T, a *authority) (url string) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("X-Request-Id", r.TLS.PeerCertificates[0].Subject.CommonName)
		}
		answerJSON(w, http.StatusCreated, jobPayload)
	}))
	certPEM, keyPEM := a.issue(t)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func newTLSClient(t *testing.T, certsDir string) (*Client, *logtest.Hook) {
	t.Helper()
	logger, hook := logtest.NewNullLogger()
	c := New(Options{Logger: logger, CertsDir: certsDir})
	t.Cleanup(c.Close)
	return c, hook
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	require.NoError(t, os.WriteFile(path, content, 0o600))
	return path
}

func requestJob(t *testing.T, c *Client, r *config.Runner) JobResult {
	t.Helper()
	return c.RequestJob(t.Context(), r, spec.RunnerVersion{}, nil)
}

func TestCertificatesOfTheRunnerEntryAreUsedAndHandedToTheJob(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	certPEM, keyPEM := a.issue(t)
	runner := testRunner()
	runner.URL = serveTLS(t, a)
	runner.TLSCAFile = write(t, filepath.Join(dir, "ca.pem"), a.pem)
	runner.TLSCertFile = write(t, filepath.Join(dir, "cert.pem"), certPEM)
	runner.TLSKeyFile = write(t, filepath.Join(dir, "key.pem"), keyPEM)
	c, _ := newTLSClient(t, "")

	result := requestJob(t, c, runner)
	require.NoError(t, result.Err)
	require.Equal(t, "leaf", result.CorrelationID, "the server saw the client's certificate")
	require.Equal(t, TLSData{CAChain: string(a.pem), Cert: string(certPEM), Key: string(keyPEM)}, result.TLS)
	require.Equal(t, []spec.Variable{
		{Key: "CI_SERVER_TLS_CA_FILE", Value: string(a.pem), Public: true, File: true, Internal: true},
		{Key: "CI_SERVER_TLS_CERT_FILE", Value: string(certPEM), Public: true, File: true, Internal: true},
		{Key: "CI_SERVER_TLS_KEY_FILE", Value: string(keyPEM), File: true, Internal: true},
	}, result.TLS.Variables())
	require.Empty(t, TLSData{}.Variables())
}

func TestCertificatesOfTheDirectoryAreFoundByHost(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	certPEM, keyPEM := a.issue(t)
	write(t, filepath.Join(dir, "127.0.0.1.crt"), a.pem)
	write(t, filepath.Join(dir, "127.0.0.1.auth.crt"), certPEM)
	write(t, filepath.Join(dir, "127.0.0.1.auth.key"), keyPEM)
	runner := testRunner()
	runner.URL = serveTLS(t, a)
	c, _ := newTLSClient(t, dir)
	result := requestJob(t, c, runner)
	require.NoError(t, result.Err)
	require.Equal(t, "leaf", result.CorrelationID)
	require.Equal(t, string(a.pem), result.TLS.CAChain)
}

func TestChangedCertificatesAreLoaded(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	runner := testRunner()
	runner.URL = serveTLS(t, a)
	runner.TLSCAFile = filepath.Join(dir, "ca.pem")
	c, hook := newTLSClient(t, "")

	require.ErrorContains(t, requestJob(t, c, runner).Err, "certificate")
	require.Empty(t, caErrors(hook), "a missing file is no error")

	write(t, runner.TLSCAFile, a.pem)
	require.NoError(t, requestJob(t, c, runner).Err)

	write(t, runner.TLSCAFile, []byte("no PEM"))
	require.ErrorContains(t, requestJob(t, c, runner).Err, "certificate")
	require.Len(t, caErrors(hook), 1, "told once, not with every request")
}

func caErrors(hook *logtest.Hook) (errors []string) {
	for _, entry := range hook.AllEntries() {
		if entry.Level == logrus.ErrorLevel {
			errors = append(errors, entry.Message)
		}
	}
	return errors
}

func TestFilesThatCannotBeUsedAreReportedAndIgnored(t *testing.T) {
	dir, a := t.TempDir(), newAuthority(t)
	certPEM, _ := a.issue(t)
	_, otherKey := a.issue(t)
	good := write(t, filepath.Join(dir, "cert"), certPEM)
	large := write(t, filepath.Join(dir, "large"), bytes.Repeat([]byte("x"), maxPEM+1))
	for name, files := range map[string]tlsFiles{
		"a directory as CA":      {ca: dir},
		"a CA that is too large": {ca: large},
		"a key of another":       {cert: good, key: write(t, filepath.Join(dir, "key"), otherKey)},
		"a directory as key":     {cert: good, key: dir},
	} {
		t.Run(name, func(t *testing.T) {
			logger, hook := logtest.NewNullLogger()
			state := files.load(files.stamp(), logger)
			require.Equal(t, tlsMaterial{}, state.material)
			require.Len(t, caErrors(hook), 1)
		})
	}
	logger, hook := logtest.NewNullLogger()
	state := tlsFiles{cert: good, key: filepath.Join(dir, "missing")}.load(tlsStamp{}, logger)
	require.Equal(t, tlsMaterial{}, state.material, "one of two is none")
	require.Empty(t, hook.AllEntries())
	require.Equal(t, uint16(tls.VersionTLS12), state.material.config().MinVersion)
}

func TestTheChainOfTheConnectionIsUsedWithoutAConfiguredCA(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	state := &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{a.cert, b.cert}, {a.cert}}}
	require.Equal(t, string(a.pem)+string(b.pem), tlsMaterial{}.dataFor(state).CAChain)
	require.Equal(t, "configured", tlsMaterial{ca: []byte("configured")}.dataFor(state).CAChain)
	require.Empty(t, tlsMaterial{}.dataFor(nil).CAChain)
}
