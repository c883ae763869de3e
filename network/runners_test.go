package network

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

func testInfo(s *testServer) spec.RunnerVersion {
	return s.client.RunnerInfo(testRunner(), spec.Features{Image: true}, "bash", nil)
}

func TestRunnerInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, nil)
		info := s.client.RunnerInfo(&config.Runner{
			Executor: "docker", Docker: &config.Docker{Gpus: "all"}, Labels: map[string]string{"region": "eu", "own": "1"},
		}, spec.Features{Image: true}, "bash", map[string]string{"region": "us", "global": "2"})
		require.Equal(t, "gitlab-runner", info.Name)
		require.Equal(t, "1.2.3", info.Version)
		require.Equal(t, "linux", info.Platform)
		require.Equal(t, "bash", info.Shell)
		require.Equal(t, "all", info.Config.Gpus)
		require.Equal(t, map[string]string{"region": "eu", "own": "1", "global": "2"}, info.Labels)
		f := info.Features
		require.True(t, f.Image && f.CancelGracefully && f.TwoPhaseJobCommit && f.TraceChecksum && f.ReturnExitCode)
		require.True(t, f.JobInputs && f.VaultSecrets)
		require.False(t, f.Shared || f.Proxy || f.Session)

		info = s.client.RunnerInfo(&config.Runner{Shell: "pwsh"}, spec.Features{}, "bash", nil)
		require.Equal(t, "pwsh", info.Shell)
		require.Nil(t, info.Labels)
	})
}

func TestRegisterRunner(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		body    string
		message string
		is      error
	}{
		"created":   {201, `{"id":42,"token":"glrtr-x","token_expires_at":null}`, "Registering runner... succeeded", nil},
		"forbidden": {403, `{}`, "Registering runner... forbidden (check registration token)", ErrForbidden},
		"refused":   {410, `{"message":"gone"}`, "Registering runner... failed", errAny},
		"invalid":   {400, `{"message":{"tag_list":["x"]}}`, "Registering runner... failed", errAny},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, func(w http.ResponseWriter, r received) { answerJSON(w, test.status, test.body) })
				cred := Credentials{URL: testURL, Token: "GR1348941abcdefghij"}
				identity, err := s.client.RegisterRunner(t.Context(), cred, RegisterRequest{
					Description: "d", TagList: "a,b", Locked: true, MaximumTimeout: 3600,
				})
				requireIs(t, err, test.is)
				if test.is == nil {
					require.EqualValues(t, 42, identity.ID)
					require.Equal(t, "glrtr-x", identity.Token)
					require.True(t, identity.TokenExpiresAt.IsZero())
					require.Equal(t, time.Now().UTC().Truncate(time.Second), identity.TokenObtainedAt)
				}
				require.Equal(t, test.message, s.logs.LastEntry().Message)
				r := s.all()[0]
				require.Equal(t, "POST /sub/api/v4/runners", r.Method+" "+r.URL.Path)
				require.Equal(t, cred.Token, r.Header.Get("RUNNER-TOKEN"))
				body := decoded(t, r.body)
				require.Equal(t, cred.Token, body["token"])
				require.Equal(t, false, body["run_untagged"])
				require.Equal(t, false, body["paused"])
				require.NotContains(t, body, "access_level")
				require.NotContains(t, body, "maintenance_note")
				require.NotContains(t, s.logged(), cred.Token)
			})
		})
	}
}

var errAny = errors.New("any error")

func requireIs(t *testing.T, err, want error) {
	t.Helper()
	switch want {
	case nil:
		require.NoError(t, err)
	case errAny:
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrForbidden)
	default:
		require.ErrorIs(t, err, want)
	}
}

func TestVerifyRunner(t *testing.T) {
	for name, test := range map[string]struct {
		answer   func(w http.ResponseWriter, r received)
		requests int
		id       int64
		message  string
		is       error
	}{
		"valid": {func(w http.ResponseWriter, r received) {
			answerJSON(w, 200, `{"id":42,"token":"x","token_expires_at":"2026-12-01T00:00:00.000Z"}`)
		}, 1, 42, "Verifying runner... is valid", nil},
		"old server that does not answer with JSON": {func(w http.ResponseWriter, r received) {
			_, _ = w.Write([]byte("200"))
		}, 2, 0, "Verifying runner... is alive", nil},
		"removed":  {func(w http.ResponseWriter, r received) { answerJSON(w, 403, `{}`) }, 1, 0, "Verifying runner... is not valid", ErrForbidden},
		"orphaned": {func(w http.ResponseWriter, r received) { answerJSON(w, 422, `{}`) }, 1, 0, "Verifying runner... failed", errAny},
		"trouble":  {func(w http.ResponseWriter, r received) { answerJSON(w, 500, `{}`) }, 5, 0, "Verifying runner... failed", errAny},
		"unreachable": {func(w http.ResponseWriter, r received) { panic(http.ErrAbortHandler) }, 2, 0,
			"Verifying runner... failed", errAny},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, test.answer)
				identity, err := s.client.VerifyRunner(t.Context(), CredentialsOf(testRunner()), "s_0123456789ab", testInfo(s))
				requireIs(t, err, test.is)
				require.Equal(t, test.id, identity.ID)
				require.Equal(t, test.message, s.logs.LastEntry().Message)
				requests := s.all()
				require.Len(t, requests, test.requests)
				require.Equal(t, "POST /sub/api/v4/runners/verify", requests[0].Method+" "+requests[0].URL.Path)
				require.Equal(t, "application/json", requests[0].Header.Get("Accept"))
				body := decoded(t, requests[0].body)
				require.Equal(t, "s_0123456789ab", body["system_id"])
				require.Len(t, body["info"].(map[string]any)["features"], 31)
			})
		})
	}
}

func TestUnregister(t *testing.T) {
	for name, test := range map[string]struct {
		call func(*Client, context.Context) error
		path string
		body map[string]any
	}{
		"a runner": {
			func(c *Client, ctx context.Context) error {
				return c.UnregisterRunner(ctx, CredentialsOf(testRunner()))
			},
			"/sub/api/v4/runners", map[string]any{"token": testToken},
		},
		"a manager": {
			func(c *Client, ctx context.Context) error {
				return c.UnregisterManager(ctx, CredentialsOf(testRunner()), "s_0123456789ab")
			},
			"/sub/api/v4/runners/managers", map[string]any{"token": testToken, "system_id": "s_0123456789ab"},
		},
	} {
		for status, want := range map[int]error{204: nil, 403: ErrForbidden, 404: errAny, 400: errAny} {
			t.Run(name+" answered with "+http.StatusText(status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newTestServer(t, func(w http.ResponseWriter, r received) { w.WriteHeader(status) })
					requireIs(t, test.call(s.client, t.Context()), want)
					r := s.all()[0]
					require.Equal(t, "DELETE "+test.path, r.Method+" "+r.URL.Path)
					require.Equal(t, test.body, decoded(t, r.body))
				})
			})
		}
	}
}

func TestResetToken(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		is     error
	}{
		"created":     {201, `{"token":"glrt-new","token_expires_at":"2026-12-01T00:00:00.000Z"}`, nil},
		"forbidden":   {403, `{}`, ErrForbidden},
		"other":       {404, `{}`, errAny},
		"empty token": {201, `{}`, errAny},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, func(w http.ResponseWriter, r received) { answerJSON(w, test.status, test.body) })
				identity, err := s.client.ResetToken(t.Context(), CredentialsOf(testRunner()), "s_0123456789ab")
				requireIs(t, err, test.is)
				_, err = s.client.ResetTokenWithPAT(t.Context(), CredentialsOf(testRunner()), "s_0123456789ab", 42, "glpat-secret")
				requireIs(t, err, test.is)
				if test.is == nil {
					require.Equal(t, "glrt-new", identity.Token)
					require.Equal(t, 2026, identity.TokenExpiresAt.Year())
				}
				own, pat := s.all()[0], s.all()[1]
				require.Equal(t, "/sub/api/v4/runners/reset_authentication_token", own.URL.Path)
				require.Equal(t, map[string]any{"token": testToken}, decoded(t, own.body))
				require.Empty(t, own.Header.Get("RUNNER-TOKEN"))
				require.Equal(t, "/sub/api/v4/runners/42/reset_authentication_token", pat.URL.Path)
				require.Equal(t, "null", string(pat.body))
				require.Equal(t, "glpat-secret", pat.Header.Get("PRIVATE-TOKEN"))
				require.Equal(t, "reset_token", s.samples[0].Endpoint)
				require.NotContains(t, s.logged(), "glpat-secret")
			})
		})
	}
}

func TestUnusableURLsAreClientErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, nil)
		runner := testRunner()
		runner.URL = "ftp://gitlab.example.com"
		cred := CredentialsOf(runner)
		_, err := s.client.RegisterRunner(t.Context(), cred, RegisterRequest{})
		require.ErrorIs(t, err, ErrClient)
		_, err = s.client.VerifyRunner(t.Context(), cred, "", testInfo(s))
		require.ErrorIs(t, err, ErrClient)
		require.ErrorIs(t, s.client.UnregisterRunner(t.Context(), cred), ErrClient)
		_, err = s.client.ResetToken(t.Context(), cred, "")
		require.ErrorIs(t, err, ErrClient)
		result := s.client.RequestJob(t.Context(), runner, testInfo(s), nil)
		require.ErrorIs(t, result.Err, ErrClient)
		require.False(t, result.Healthy)
		require.Equal(t, UpdateAborted, s.client.UpdateJob(t.Context(), runner, JobRef{ID: 1}, JobUpdate{}).State)
		require.Equal(t, PatchFailed, s.client.PatchTrace(t.Context(), runner, JobRef{ID: 1}, []byte("x"), 0, false).State)
		require.Empty(t, s.all())
	})
}
