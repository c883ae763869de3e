package network

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// maxPEM bounds a certificate file.
const maxPEM = 4 << 20

// TLSData is what a job needs to speak to the server as the runner does, as PEM. Empty texts stand for
// what is not needed.
type TLSData struct {
	CAChain string
	Cert    string
	Key     string
}

// Variables are the job variables that carry the data. Only those with data are there.
func (d TLSData) Variables() []spec.Variable {
	var list []spec.Variable
	for _, v := range []spec.Variable{
		{Key: "CI_SERVER_TLS_CA_FILE", Value: d.CAChain, Public: true, File: true, Internal: true},
		{Key: "CI_SERVER_TLS_CERT_FILE", Value: d.Cert, Public: true, File: true, Internal: true},
		{Key: "CI_SERVER_TLS_KEY_FILE", Value: d.Key, File: true, Internal: true},
	} {
		if v.Value != "" {
			list = append(list, v)
		}
	}
	return list
}

// tlsFiles are the files that decide about TLS; empty names are not used.
type tlsFiles struct{ ca, cert, key string }

// tlsFilesFor fills in the files of the certificate directory for what cred does not name.
func tlsFilesFor(cred Credentials, dir, host string) tlsFiles {
	files := tlsFiles{ca: cred.TLSCAFile, cert: cred.TLSCertFile, key: cred.TLSKeyFile}
	if dir == "" {
		return files
	}
	if files.ca == "" {
		files.ca = filepath.Join(dir, host+".crt")
	}
	if files.cert == "" {
		files.cert = filepath.Join(dir, host+".auth.crt")
	}
	if files.key == "" {
		files.key = filepath.Join(dir, host+".auth.key")
	}
	return files
}

// fileStamp changes when the file does, appears or disappears.
type fileStamp struct {
	modified time.Time
	size     int64
}

type tlsStamp [3]fileStamp

func (f tlsFiles) stamp() tlsStamp {
	var stamp tlsStamp
	for i, name := range []string{f.ca, f.cert, f.key} {
		if name == "" {
			continue
		}
		if info, err := os.Stat(name); err == nil {
			stamp[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return stamp
}

// tlsState is what was loaded, and from which state of the files.
type tlsState struct {
	stamp    tlsStamp
	material tlsMaterial
}

type tlsMaterial struct {
	ca        []byte
	pool      *x509.CertPool
	cert, key []byte
	pair      *tls.Certificate
}

// load reads the files. One that is missing is not used; one that cannot be used is not either, and
// somebody is told.
func (f tlsFiles) load(stamp tlsStamp, log logrus.FieldLogger) tlsState {
	state := tlsState{stamp: stamp}
	m := &state.material
	if content, err := readPEM(f.ca); err != nil {
		log.WithError(err).WithField("file", f.ca).Error("Cannot use the CA certificates of tls-ca-file")
	} else if len(content) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if pool.AppendCertsFromPEM(content) {
			m.ca, m.pool = content, pool
		} else {
			log.WithField("file", f.ca).Error("Cannot use the CA certificates of tls-ca-file: there are none in it")
		}
	}
	cert, certErr := readPEM(f.cert)
	key, keyErr := readPEM(f.key)
	if err := errors.Join(certErr, keyErr); err != nil {
		log.WithError(err).Error("Cannot use the client certificate of tls-cert-file and tls-key-file")
		return state
	}
	if len(cert) == 0 || len(key) == 0 {
		return state
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		log.WithError(err).Error("Cannot use the client certificate of tls-cert-file and tls-key-file")
		return state
	}
	m.cert, m.key, m.pair = cert, key, &pair
	return state
}

func readPEM(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxPEM+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if len(content) > maxPEM {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, maxPEM)
	}
	return content, nil
}

func (m tlsMaterial) config() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: m.pool}
	if m.pair != nil {
		config.Certificates = []tls.Certificate{*m.pair}
	}
	return config
}

// dataFor is what a job needs after an answer that came over the given connection.
func (m tlsMaterial) dataFor(state *tls.ConnectionState) TLSData {
	data := TLSData{CAChain: string(m.ca), Cert: string(m.cert), Key: string(m.key)}
	if data.CAChain == "" && state != nil {
		data.CAChain = chainPEM(state.VerifiedChains)
	}
	return data
}

func chainPEM(chains [][]*x509.Certificate) string {
	var out bytes.Buffer
	seen := map[string]bool{}
	for _, chain := range chains {
		for _, certificate := range chain {
			if signature := string(certificate.Signature); !seen[signature] {
				seen[signature] = true
				_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}) // a Buffer takes all
			}
		}
	}
	return out.String()
}
