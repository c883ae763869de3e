package secrets

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// description is a secret in the Vault at an address.
func description(t *testing.T, address, path string) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"server": map[string]any{"url": address, "auth": map[string]any{"name": "jwt", "path": "jwt", "data": map[string]string{"jwt": "the-token"}}},
		"engine": map[string]any{"name": "kv-v2", "path": "kv"}, "path": path, "field": "f",
	})
	require.NoError(t, err)
	return text
}

func TestNoRedirectTakesATokenOutOfEncryption(t *testing.T) {
	reached := false
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	t.Cleanup(plain.Close)
	vault := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/login") {
			_, _ = io.WriteString(w, `{"auth":{"client_token":"hvs.x"}}`)
			return
		}
		http.Redirect(w, r, plain.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(vault.Close)
	c := NewClient("")
	c.HTTP.Transport = vault.Client().Transport
	_, err := c.Fetch(t.Context(), "vault", description(t, vault.URL, "db"))
	require.ErrorContains(t, err, "from https to http")
	require.False(t, reached)
}

func TestWhatAnotherServerAnswersIsNotShown(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<p>internal-page</p>")
	}))
	t.Cleanup(server.Close)
	_, err := NewClient("").Fetch(t.Context(), "vault", description(t, server.URL, "db"))
	require.ErrorContains(t, err, "403 Forbidden")
	require.NotContains(t, err.Error(), "internal-page")
}

func TestComplaints(t *testing.T) {
	for body, want := range map[string]string{
		`{"errors":["a","b\nc"]}`:                         "a; b c",
		`{"error":{"message":"denied"}}`:                  "denied",
		`{"error":"x","error_description":"the whole"}`:   "the whole",
		`{"error":"short"}`:                               "short",
		`<html>`:                                          "",
		`{"errors":["` + strings.Repeat("é", 400) + `"]}`: strings.Repeat("é", messageLimit/2),
	} {
		require.Equal(t, want, complaint([]byte(body)))
	}
}

func TestPathsStayWithinTheirEngine(t *testing.T) {
	for path, want := range map[string]string{
		"a/b":      "https://v/v1/kv/data/a/b",
		"/a//b/":   "https://v/v1/kv/data/a/b",
		"100% ?#é": "https://v/v1/kv/data/100%25%20%3F%23%C3%A9",
	} {
		got, err := apiPath("https://v/", "kv", "data", path)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, path := range []string{"..", "../../sys/auth", "a/../../../sys"} {
		_, err := apiPath("https://v", "kv", "data", path)
		require.ErrorContains(t, err, "leads out of Vault's API")
	}
}
