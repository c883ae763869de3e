package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
)

const jobPayload = `{"id":1001,"token":"glcbt-64_secret","unknown":{},"image":null,"variables":[{"key":"A","value":null}],
	"git_info":{"repo_url":"https://gitlab-ci-token:glcbt-64_secret@host/group/project.git"}}`

func TestRequestJob(t *testing.T) {
	for name, test := range map[string]struct {
		answer   func(w http.ResponseWriter)
		job      bool
		healthy  bool
		retried  bool
		is       error
		level    logrus.Level
		message  string
		requests int
	}{
		"a job": {
			func(w http.ResponseWriter) { answerJSON(w, 201, jobPayload) },
			true, true, false, nil, logrus.InfoLevel, "Checking for jobs... received", 1},
		"no job": {
			func(w http.ResponseWriter) { w.WriteHeader(204) },
			false, true, false, nil, logrus.DebugLevel, "Checking for jobs... no content", 1},
		"forbidden": {
			func(w http.ResponseWriter) { answerJSON(w, 403, `{"message":"403 Forbidden"}`) },
			false, false, false, ErrForbidden, logrus.ErrorLevel, "Checking for jobs... forbidden", 1},
		"unavailable": {
			func(w http.ResponseWriter) { w.WriteHeader(503) },
			false, true, true, ErrUnavailable, logrus.WarnLevel, "Checking for jobs... failed: GitLab instance currently unavailable", 5},
		"too many requests": {
			func(w http.ResponseWriter) { w.WriteHeader(429) },
			false, true, true, errAny, logrus.WarnLevel, "Checking for jobs... failed", 5},
		"conflict": {
			func(w http.ResponseWriter) { w.WriteHeader(409) },
			false, true, false, errAny, logrus.WarnLevel, "Checking for jobs... failed", 1},
		"unprocessable": {
			func(w http.ResponseWriter) { w.WriteHeader(422) },
			false, true, false, errAny, logrus.WarnLevel, "Checking for jobs... failed", 1},
		"not JSON": {
			func(w http.ResponseWriter) { w.WriteHeader(201); _, _ = w.Write([]byte("<html>")) },
			false, true, false, errAny, logrus.WarnLevel, "Checking for jobs... failed", 1},
		"no connection": {
			func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
			false, true, false, errAny, logrus.WarnLevel, "Checking for jobs... failed", 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, func(w http.ResponseWriter, r received) { test.answer(w) })
				session := &Session{URL: "https://session", Certificate: "PEM", Authorization: "auth"}
				result := s.client.RequestJob(t.Context(), testRunner(), testInfo(s), session)
				require.Equal(t, test.healthy, result.Healthy)
				require.Equal(t, test.retried, result.Retried)
				require.NotEmpty(t, result.CorrelationID)
				requireIs(t, result.Err, test.is)
				require.Equal(t, test.job, result.Job != nil)
				require.Equal(t, test.message, s.logs.LastEntry().Message)
				require.Equal(t, test.level, s.logs.LastEntry().Level)
				require.Len(t, s.all(), test.requests)
				require.NotContains(t, s.logged(), "secret")

				r := s.all()[0]
				require.Equal(t, "POST /sub/api/v4/jobs/request", r.Method+" "+r.URL.Path)
				require.Equal(t, testToken, r.Header.Get("RUNNER-TOKEN"))
				body := decoded(t, r.body)
				require.Equal(t, testToken, body["token"])
				require.Equal(t, "s_0123456789ab", body["system_id"])
				require.Equal(t, map[string]any{"url": "https://session", "certificate": "PEM", "authorization": "auth"}, body["session"])
				if test.job {
					require.EqualValues(t, 1001, result.Job.ID)
					require.Equal(t, TLSData{}, result.TLS, "plain http needs none")
					require.Equal(t, "https://host/group/project.git", s.logs.LastEntry().Data["repo_url"])
				}
			})
		})
	}
}

func TestRequestJobWithoutSessionSendsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) { w.WriteHeader(204) })
		s.client.RequestJob(t.Context(), testRunner(), testInfo(s), nil)
		require.NotContains(t, decoded(t, s.all()[0].body), "session")
	})
}

func TestAJobThatCannotBeDecodedIsReportedAsFailed(t *testing.T) {
	for name, test := range map[string]struct {
		payload  string
		reported bool
	}{
		"a broken input": {`{"id":7,"token":"job-token","inputs":[{"key":"","value":{}}]}`, true},
		"a broken field": {`{"id":7,"token":"job-token","steps":5}`, true},
		"no token":       {`{"id":7}`, false},
		"no JSON":        {`{`, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, func(w http.ResponseWriter, r received) {
					if r.Method == http.MethodPost {
						answerJSON(w, 201, test.payload)
						return
					}
					w.WriteHeader(200)
				})
				result := s.client.RequestJob(t.Context(), testRunner(), testInfo(s), nil)
				require.Nil(t, result.Job)
				require.True(t, result.Healthy)
				require.ErrorContains(t, result.Err, "decoding job payload")
				requests := s.all()
				if !test.reported {
					require.Len(t, requests, 1)
					return
				}
				require.Len(t, requests, 2)
				require.Equal(t, "PUT /sub/api/v4/jobs/7", requests[1].Method+" "+requests[1].URL.Path)
				body := decoded(t, requests[1].body)
				require.Equal(t, "failed", body["state"])
				require.Equal(t, "runner_system_failure", body["failure_reason"])
			})
		})
	}
}

func TestAHeldRequestEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) { <-r.Context().Done() })
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(70*time.Second, func() { cancel(errors.New("shutting down")) })
		began := time.Now()
		result := s.client.RequestJob(ctx, testRunner(), testInfo(s), nil)
		require.Equal(t, 70*time.Second, time.Since(began))
		require.True(t, result.Healthy)
		require.Error(t, result.Err)
		require.Equal(t, logrus.DebugLevel, s.logs.LastEntry().Level)
	})
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"id":42,"token":"x","token_expires_at":"2026-12-01T00:00:00.000Z"}`), "application/json")
	f.Add([]byte(`{"id":42,"token":null,"token_expires_at":""}`), "application/json; charset=utf-8")
	f.Add([]byte(`<html>`), "text/html")
	f.Fuzz(func(t *testing.T, body []byte, kind string) {
		a := &answer{header: http.Header{"Content-Type": {kind}}, body: io.NopCloser(bytes.NewReader(body))}
		var identity identityBody
		if err := a.decode(&identity); err == nil {
			require.True(t, json.Valid(body))
			_ = identity.identity()
		}
	})
}
