package secrets

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const jwt = "token-of-the-job"

// provider answers by the method and the path, and checks what it is sent.
type provider map[string]func(t *testing.T, r *http.Request, body string) (int, any)

func (p provider) start(t *testing.T) (*Client, string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer, known := p[r.Method+" "+r.URL.Path]
		if !known {
			http.Error(w, `{"errors":[]}`, http.StatusNotFound)
			return
		}
		status, value := answer(t, r, string(body))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(value)
	}))
	t.Cleanup(server.Close)
	c := NewClient("1-2-gitlab.example.com")
	c.Endpoints = map[string]string{}
	for _, host := range []string{"sts.googleapis.com", "secretmanager.googleapis.com", "login.microsoftonline.com", "sts", "secretsmanager"} {
		c.Endpoints[host] = server.URL
	}
	return c, server.URL
}

type object = map[string]any

func TestVaultIsLoggedInToAndRead(t *testing.T) {
	vault := provider{
		"POST /v1/auth/jwt_v2/login": func(t *testing.T, r *http.Request, body string) (int, any) {
			if r.Header.Get("X-Vault-Namespace") != "team" {
				return http.StatusForbidden, object{}
			}
			if body != `{"jwt":"`+jwt+`","role":"ci"}` {
				return http.StatusBadRequest, object{"errors": []string{"bad login"}}
			}
			return http.StatusOK, object{"auth": object{"client_token": "vault-token"}}
		},
		"GET /v1/secret/data/db": func(t *testing.T, r *http.Request, _ string) (int, any) {
			if r.Header.Get("X-Vault-Token") != "vault-token" {
				return http.StatusForbidden, object{}
			}
			return http.StatusOK, object{"data": object{"data": object{"password": "pw", "port": 5432}}}
		},
		"GET /v1/kv/db": func(*testing.T, *http.Request, string) (int, any) {
			return http.StatusOK, object{"data": object{"password": "old"}}
		},
	}
	c, address := vault.start(t)
	describe := func(engine, path, secret, field, token string) json.RawMessage {
		return fmt.Appendf(nil, `{"server":{"url":%q,"namespace":"team","auth":{"name":"jwt","path":"jwt_v2","data":{"jwt":%q,"role":"ci"}}},
			"engine":{"name":%q,"path":%q},"path":%q,"field":%q}`, address+"/", token, engine, path, secret, field)
	}
	for name, c2 := range map[string]struct {
		description json.RawMessage
		want, fails string
	}{
		"second version": {description: describe("kv-v2", "secret", "db", "password", jwt), want: "pw"},
		"a number":       {description: describe("kv-v2", "secret", "db", "port", jwt), want: "5432"},
		"first version":  {description: describe("kv-v1", "kv", "db", "password", jwt), want: "old"},
		"generic":        {description: describe("generic", "kv", "db", "password", jwt), want: "old"},
		"no field":       {description: describe("kv-v2", "secret", "db", "user", jwt), fails: `secret not found: secret "db" has no field "user"`},
		"no secret":      {description: describe("kv-v2", "secret", "nothing", "user", jwt), fails: "secret not found"},
		"wrong token":    {description: describe("kv-v2", "secret", "db", "password", "other"), fails: "logging in to Vault: 400 Bad Request"},
		"no engine":      {description: describe("ssh", "secret", "db", "password", jwt), fails: `secrets engine "ssh" is not known`},
		"out of the API": {description: describe("kv-v1", "..", "../sys/seal", "x", jwt), fails: "leads out of Vault's API"},
		"nonsense":       {description: json.RawMessage(`[]`), fails: "reading the description of a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.Fetch(t.Context(), "vault", c2.description)
			if c2.fails != "" {
				require.ErrorContains(t, err, c2.fails)
				require.NotContains(t, err.Error(), jwt)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c2.want, got)
		})
	}
}

func TestGitLabsManagerIsAskedInOneCall(t *testing.T) {
	parameter := func(r *http.Request, name string) string {
		text, _ := base64.RawURLEncoding.DecodeString(r.Header.Get("X-Vault-Inline-Auth-Parameter-" + name))
		return string(text)
	}
	bao := provider{"GET /v1/secrets/kv/data/explicit/db": func(_ *testing.T, r *http.Request, _ string) (int, any) {
		if r.Header.Get("X-Vault-Inline-Auth-Path") != "auth/pipeline_jwt/login" ||
			parameter(r, "jwt") != `{"key":"jwt","value":"`+jwt+`"}` || parameter(r, "role") != `{"key":"role","value":"all"}` {
			return http.StatusForbidden, object{}
		}
		return http.StatusOK, object{"data": object{"data": object{"value": "pw"}}}
	}}
	c, address := bao.start(t)
	for _, login := range []string{`"path":"auth/pipeline_jwt/login"`, `"auth_mount":"pipeline_jwt"`} {
		got, err := c.Fetch(t.Context(), "gitlab_secrets_manager", fmt.Appendf(nil,
			`{"server":{"url":%q,"inline_auth":{%s,"jwt":%q,"role":"all"}},"engine":{"name":"kv-v2","path":"secrets/kv"},"path":"explicit/db","field":"value"}`,
			address, login, jwt))
		require.NoError(t, err)
		require.Equal(t, "pw", got)
	}
}

func TestGoogleExchangesTheJobsToken(t *testing.T) {
	google := provider{
		"POST /v1/token": func(t *testing.T, _ *http.Request, body string) (int, any) {
			form, err := url.ParseQuery(body)
			if err != nil || form.Get("subject_token") != jwt ||
				form.Get("audience") != "//iam.googleapis.com/projects/42/locations/global/workloadIdentityPools/pool/providers/gitlab" {
				return http.StatusBadRequest, object{"error": "invalid_grant"}
			}
			return http.StatusOK, object{"access_token": "google-token"}
		},
		"GET /v1/projects/42/secrets/db/versions/3:access": func(_ *testing.T, r *http.Request, _ string) (int, any) {
			if r.Header.Get("Authorization") != "Bearer google-token" {
				return http.StatusUnauthorized, object{}
			}
			return http.StatusOK, object{"payload": object{"data": base64.StdEncoding.EncodeToString([]byte("pw"))}}
		},
	}
	c, _ := google.start(t)
	describe := func(name, token string) json.RawMessage {
		return fmt.Appendf(nil, `{"name":%q,"version":"3","server":{"project_number":"42","workload_identity_federation_pool_id":"pool","workload_identity_federation_provider_id":"gitlab","jwt":%q}}`, name, token)
	}
	got, err := c.Fetch(t.Context(), "gcp_secret_manager", describe("db", jwt))
	require.NoError(t, err)
	require.Equal(t, "pw", got)
	_, err = c.Fetch(t.Context(), "gcp_secret_manager", describe("other", jwt))
	require.ErrorIs(t, err, ErrNotFound)
	var refusal *Refusal
	_, err = c.Fetch(t.Context(), "gcp_secret_manager", describe("db", "other"))
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, http.StatusBadRequest, refusal.Status)
}

func TestAzureExchangesTheJobsToken(t *testing.T) {
	azure := provider{
		"POST /tenant/oauth2/v2.0/token": func(_ *testing.T, _ *http.Request, body string) (int, any) {
			form, err := url.ParseQuery(body)
			if err != nil || form.Get("client_assertion") != jwt || form.Get("client_id") != "client" {
				return http.StatusUnauthorized, object{}
			}
			return http.StatusOK, object{"access_token": "azure-token"}
		},
		"GET /secrets/db": func(_ *testing.T, r *http.Request, _ string) (int, any) {
			if r.Header.Get("Authorization") != "Bearer azure-token" || r.URL.Query().Get("api-version") == "" {
				return http.StatusUnauthorized, object{}
			}
			return http.StatusOK, object{"value": "newest"}
		},
		"GET /secrets/db/7": func(*testing.T, *http.Request, string) (int, any) { return http.StatusOK, object{"value": "seventh"} },
	}
	c, address := azure.start(t)
	for version, want := range map[string]string{"": "newest", "7": "seventh"} {
		got, err := c.Fetch(t.Context(), "azure_key_vault", fmt.Appendf(nil,
			`{"name":"db","version":%q,"server":{"client_id":"client","tenant_id":"tenant","jwt":%q,"url":%q}}`, version, jwt, address))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
}

func TestAWSTakesTheRoleOfTheJob(t *testing.T) {
	aws := provider{"POST /": func(_ *testing.T, r *http.Request, body string) (int, any) {
		if target := r.Header.Get("X-Amz-Target"); target != "" {
			if !strings.Contains(r.Header.Get("Authorization"), "Credential=ASIAJOB/") {
				return http.StatusForbidden, object{"__type": "AccessDeniedException"}
			}
			if !strings.Contains(body, `"SecretId":"db"`) {
				return http.StatusBadRequest, object{"__type": "ResourceNotFoundException", "message": "no such secret"}
			}
			return http.StatusOK, object{"SecretString": `{"password":"pw"}`}
		}
		return http.StatusOK, nil
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		if form.Get("WebIdentityToken") != jwt || form.Get("RoleSessionName") != "1-2-gitlab.example.com" || form.Get("RoleArn") != "arn:aws:iam::1:role/ci" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>`)
			return
		}
		_, _ = io.WriteString(w, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ASIAJOB</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`)
	}))
	t.Cleanup(server.Close)
	c, _ := aws.start(t)
	c.Endpoints["sts"] = server.URL
	describe := func(secret, field, role, token string) json.RawMessage {
		return fmt.Appendf(nil, `{"secret_id":%q,"field":%q,"server":{"region":"eu-west-1","jwt":%q,"role_arn":%q}}`, secret, field, token, role)
	}
	const role = "arn:aws:iam::1:role/ci"
	for field, want := range map[string]string{"password": "pw", "": `{"password":"pw"}`} {
		got, err := c.Fetch(t.Context(), "aws_secrets_manager", describe("db", field, role, jwt))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := c.Fetch(t.Context(), "aws_secrets_manager", describe("other", "", role, jwt))
	require.ErrorIs(t, err, ErrNotFound)
	_, err = c.Fetch(t.Context(), "aws_secrets_manager", describe("db", "user", role, jwt))
	require.ErrorIs(t, err, ErrNotFound)
	_, err = c.Fetch(t.Context(), "aws_secrets_manager", describe("db", "", "", jwt))
	require.ErrorContains(t, err, "role_arn is missing")
	_, err = c.Fetch(t.Context(), "aws_secrets_manager", describe("db", "", role, "other"))
	require.Error(t, err)
	require.NotContains(t, err.Error(), jwt)
}

func TestAProviderThatIsOutOfReachIsTold(t *testing.T) {
	c := NewClient("")
	_, err := c.Fetch(t.Context(), "vault", json.RawMessage(`{"server":{"url":"http://127.0.0.1:1","auth":{"path":"jwt"}}}`))
	var unreachable *UnreachableError
	require.ErrorAs(t, err, &unreachable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Fetch(ctx, "vault", json.RawMessage(`{"server":{"url":"http://127.0.0.1:1","auth":{"path":"jwt"}}}`))
	require.ErrorIs(t, err, context.Canceled)
	_, err = c.Fetch(t.Context(), "keychain", json.RawMessage(`{}`))
	require.ErrorIs(t, err, ErrUnknownProvider)
}

func FuzzExpand(f *testing.F) {
	f.Add(`{"a":["$X",{"b":"$X"}],"n":12345678901234567890}`)
	f.Fuzz(func(t *testing.T, description string) {
		out, err := Expand(json.RawMessage(description), func(text string) string { return text })
		if err != nil {
			return
		}
		again, err := Expand(out, func(text string) string { return text })
		require.NoError(t, err)
		require.JSONEq(t, string(out), string(again))
	})
}
