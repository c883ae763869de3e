//go:build system

package system

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

const (
	jobJWT    = "eyJhbGciOiJSUzI1NiJ9.of-the-job.signature"
	vaultPass = "correct-horse-battery-staple"
	vaultCert = "-----BEGIN THING-----\nfirst-secret-line\nsecond-secret-line\n-----END THING-----\n"
)

// newVault stands in for HashiCorp Vault, with one role and one secret.
func newVault(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/auth/jwt/login", func(w http.ResponseWriter, r *http.Request) {
		var login struct{ JWT, Role string }
		if json.NewDecoder(r.Body).Decode(&login) != nil || login.JWT != jobJWT || login.Role != "ci" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"errors":["role \"`+login.Role+`\" could not be found"]}`)
			return
		}
		_, _ = io.WriteString(w, `{"auth":{"client_token":"hvs.of-the-login"}}`)
	})
	mux.HandleFunc("GET /v1/kv/data/app/db", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != "hvs.of-the-login" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		text, err := json.Marshal(map[string]any{"data": map[string]any{"data": map[string]string{"password": vaultPass, "cert": vaultCert}}})
		assert.NoError(t, err)
		_, _ = w.Write(text)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// fromVault makes a job ask for fields of the secret.
func fromVault(url, role string, fields map[string]string, files map[string]bool) func(map[string]any) {
	return func(payload map[string]any) {
		secrets := map[string]any{}
		for name, field := range fields {
			secrets[name] = map[string]any{
				"vault": map[string]any{
					"server": map[string]any{"url": url, "namespace": "", "auth": map[string]any{
						"name": "jwt", "path": "jwt", "data": map[string]any{"jwt": "$VAULT_JWT", "role": role},
					}},
					"engine": map[string]any{"name": "kv-v2", "path": "kv"}, "path": "$APP/db", "field": field,
				},
				"file": files[name],
			}
		}
		payload["secrets"] = secrets
	}
}

func TestSecretsReachTheJobAndNotItsLog(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(rig.Config{Executor: "docker"})
	url := newVault(t)
	variables := []coordinator.Variable{{Key: "VAULT_JWT", Value: jobJWT, Masked: true}, {Key: "APP", Value: "app"}}
	record := s.Succeeds(coordinator.JobSpec{
		Name: "secrets", Variables: variables,
		Script: []string{
			`test "$PASSWORD" = "correct-horse""-battery-staple"`,
			`echo "the password is $PASSWORD"`,
			`test "$(sed -n 2p "$CERT")" = "first-secret""-line"`,
			`cat "$CERT"`,
		},
		Patch: fromVault(url, "ci", map[string]string{"PASSWORD": "password", "CERT": "cert"}, map[string]bool{"CERT": true}),
	})
	require.Empty(t, orderProblem(plain(record), []string{
		"Resolving secrets", `Resolving secret "CERT"`, `Using "vault" secret resolver`, `Resolving secret "PASSWORD"`,
		"Preparing the", "the password is [MASKED]", "Job succeeded",
	}))
	require.True(t, record.Assignments[0].Info.Features["vault_secrets"], "GitLab would not send such jobs")
	for _, hidden := range []string{vaultPass, "first-secret-line", jobJWT, "hvs.of-the-login"} {
		require.NotContains(t, string(record.Trace), hidden)
		require.NotContains(t, s.Manager.LogText(), hidden)
	}

	for name, one := range map[string]struct{ url, role, field, reason, says string }{
		"refused":     {url, "other", "password", "runner_configuration_error", `resolving secrets: secret "PASSWORD": logging in to Vault: 400 Bad Request: role "other" could not be found`},
		"missing":     {url, "ci", "none", "runner_system_failure", `secret "PASSWORD": secret not found`},
		"unreachable": {"http://127.0.0.1:1", "ci", "password", "runner_external_dependency_failure", "connection refused"},
	} {
		job := s.Enqueue(coordinator.JobSpec{
			Name: name, Variables: variables, Script: []string{"echo never"},
			Patch: fromVault(one.url, one.role, map[string]string{"PASSWORD": one.field}, nil),
		})
		record := s.Ended(job)
		s.RequireState(record, coordinator.StateFailed, one.reason)
		require.Contains(t, plain(record), one.says)
		require.NotContains(t, plain(record), "Preparing the", "something was made for a job without its secrets")
	}
}
