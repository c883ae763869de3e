package objectstore

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

const (
	cloudPlatformScope = "https://www.googleapis.com/auth/cloud-platform"
	// googleTimeout bounds one request for a token or a signature.
	googleTimeout = 30 * time.Second
	// maxCredentialsFile is far above the size of any credentials file.
	maxCredentialsFile = 1 << 20
)

// googleIdentity is a service account that signs.
type googleIdentity interface {
	email() string
	// signText returns the RSA signature of a text's SHA-256.
	signText(ctx context.Context, text []byte) ([]byte, error)
}

// keyIdentity signs with a private key that is here.
type keyIdentity struct {
	account string
	key     *rsa.PrivateKey
}

func (i keyIdentity) email() string { return i.account }

func (i keyIdentity) signText(_ context.Context, text []byte) ([]byte, error) {
	digest := sha256.Sum256(text)
	return rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, digest[:])
}

// googleIdentityOf returns what finds the identity that c configures.
func googleIdentityOf(c *config.CacheGCS, universe string) (func(context.Context) (googleIdentity, error), error) {
	switch {
	case c.CredentialsFile != "":
		return func(context.Context) (googleIdentity, error) { return identityFromFile(c.CredentialsFile, universe) }, nil
	case c.AccessID != "" && c.PrivateKey != "":
		key, err := parsePrivateKey(c.PrivateKey)
		if err != nil {
			return nil, fmt.Errorf("config PrivateKey: %w", err)
		}
		identity := keyIdentity{account: c.AccessID, key: key}
		return func(context.Context) (googleIdentity, error) { return identity, nil }, nil
	case c.PrivateKey != "":
		return nil, errors.New("config AccessID cannot be empty with PrivateKey: set it to the service account's e-mail address")
	default:
		return func(ctx context.Context) (googleIdentity, error) { return machineIdentity(ctx, c.AccessID, universe) }, nil
	}
}

// credentialsFile is what is used of a credentials file of any type.
type credentialsFile struct {
	Type             string `json:"type"`
	ClientEmail      string `json:"client_email"`
	PrivateKey       string `json:"private_key"`
	ImpersonationURL string `json:"service_account_impersonation_url"`
}

func identityFromFile(name, universe string) (googleIdentity, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("opening CredentialsFile: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCredentialsFile))
	if err != nil {
		return nil, fmt.Errorf("reading CredentialsFile: %w", err)
	}
	identity, err := identityFromJSON(data, "", universe)
	if err != nil {
		return nil, fmt.Errorf("using CredentialsFile %s: %w", name, err)
	}
	return identity, nil
}

// identityFromJSON takes the account to sign as, if it is not the file's own.
func identityFromJSON(data []byte, account, universe string) (googleIdentity, error) {
	var file credentialsFile
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, errors.New("it is not a JSON credentials file")
	}
	if file.Type == string(google.ServiceAccount) && (account == "" || account == file.ClientEmail) {
		key, err := parsePrivateKey(file.PrivateKey)
		if err != nil {
			return nil, fmt.Errorf("its private_key: %w", err)
		}
		if file.ClientEmail == "" {
			return nil, errors.New("it has no client_email")
		}
		return keyIdentity{account: file.ClientEmail, key: key}, nil
	}
	if account == "" {
		account = impersonated(file.ImpersonationURL)
	}
	if account == "" {
		return nil, fmt.Errorf("credentials of type %q name no service account: use a service account's, or set AccessID without PrivateKey and CredentialsFile", file.Type)
	}
	credentials, err := google.CredentialsFromJSONWithType(tokenContext(), data, google.CredentialsType(file.Type), cloudPlatformScope)
	if err != nil {
		return nil, err
	}
	return newRemoteIdentity(account, universe, credentials.TokenSource), nil
}

// impersonated returns the account in a URL like .../serviceAccounts/<account>:generateAccessToken.
func impersonated(url string) string {
	account, _, _ := strings.Cut(path.Base(url), ":")
	if !strings.Contains(account, "@") {
		return ""
	}
	return account
}

// machineIdentity is that of the application default credentials.
func machineIdentity(ctx context.Context, account, universe string) (googleIdentity, error) {
	credentials, err := google.FindDefaultCredentials(tokenContext(), cloudPlatformScope)
	if err != nil {
		return nil, fmt.Errorf("finding the application default credentials (or set CredentialsFile, or AccessID and PrivateKey): %w", err)
	}
	if credentials.JSON != nil {
		identity, err := identityFromJSON(credentials.JSON, account, universe)
		if err != nil {
			return nil, fmt.Errorf("using the application default credentials: %w", err)
		}
		return identity, nil
	}
	if account == "" {
		if account, err = metadata.EmailWithContext(ctx, "default"); err != nil {
			return nil, fmt.Errorf("asking for this machine's service account: %w", err)
		}
	}
	return newRemoteIdentity(account, universe, credentials.TokenSource), nil
}

// tokenContext is the context of token sources, which outlive the request that they are made for.
func tokenContext() context.Context {
	return context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Timeout: googleTimeout})
}

// parsePrivateKey reads PEM. Its errors have nothing of the key.
func parsePrivateKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("it is not in PEM format")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("it is neither PKCS #1 nor PKCS #8")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is not an RSA key")
	}
	return key, nil
}
