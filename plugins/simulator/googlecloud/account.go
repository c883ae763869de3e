package googlecloud

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// grantType is that of a token for a signed assertion.
const grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// Credentials is the file of the project's service account, as Google's console gives it out.
func (c *Cloud) Credentials() ([]byte, error) {
	private, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		return nil, fmt.Errorf("encoding the key of the service account: %w", err)
	}
	return json.MarshalIndent(map[string]string{
		"type":           "service_account",
		"project_id":     c.options.Project,
		"private_key_id": "1",
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		"client_email":   c.account(),
		"client_id":      "1",
		"token_uri":      c.options.Address + "/token",
	}, "", "  ")
}

// account is the name of the service account.
func (c *Cloud) account() string { return "runner@" + c.options.Project + ".iam.gserviceaccount.com" }

// giveToken answers a signed assertion with an access token.
func (c *Cloud) giveToken(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, requestLimit)
	if r.PostFormValue("grant_type") != grantType {
		http.Error(w, `{"error": "unsupported_grant_type"}`, http.StatusBadRequest)
		return
	}
	if err := c.checkAssertion(r.PostFormValue("assertion")); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": "invalid_grant", "error_description": err.Error()})
		return
	}
	token := rand.Text()
	c.Mu.Lock()
	c.tokens[token] = true
	c.Count("token")
	c.Mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
}

// checkAssertion checks a signed statement of the service account about itself.
func (c *Cloud) checkAssertion(text string) error {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return errors.New("this is no signed assertion")
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(&c.key.PublicKey, crypto.SHA256, sum[:], signature); err != nil {
		return errors.New("invalid JWT signature")
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return err
	}
	var said struct {
		Iss   string `json:"iss"`
		Scope string `json:"scope"`
		Exp   int64  `json:"exp"`
	}
	if err := json.Unmarshal(claims, &said); err != nil {
		return err
	}
	if said.Iss != c.account() {
		return fmt.Errorf("the account %q does not exist", said.Iss)
	}
	if time.Now().Unix() > said.Exp {
		return errors.New("the assertion is over")
	}
	if !strings.Contains(said.Scope, "https://www.googleapis.com/auth/c") {
		return fmt.Errorf("the scope %q does not allow to work on instances", said.Scope)
	}
	return nil
}

// allowed says whether a request carries a token that was given out, or an assertion in its place.
func (c *Cloud) allowed(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	c.Mu.Lock()
	given := c.tokens[token]
	c.Mu.Unlock()
	return ok && (given || c.checkAssertion(token) == nil)
}
