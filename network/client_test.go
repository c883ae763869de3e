package network

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBaseURL(t *testing.T) {
	for configured, want := range map[string]string{
		"https://gitlab.example.com":             "https://gitlab.example.com/api/v4/",
		"https://gitlab.example.com/":            "https://gitlab.example.com/api/v4/",
		"https://gitlab.example.com///":          "https://gitlab.example.com/api/v4/",
		"https://gitlab.example.com/ci":          "https://gitlab.example.com/api/v4/",
		"https://gitlab.example.com/ci/":         "https://gitlab.example.com/api/v4/",
		"http://gitlab.example.com:8080/gitlab/": "http://gitlab.example.com:8080/gitlab/api/v4/",
	} {
		base, err := baseURL(configured)
		require.NoError(t, err)
		require.Equal(t, want, base.String())
	}
	for configured, want := range map[string]string{
		"ftp://gitlab.example.com":       `only http and https are supported in url, not "ftp"`,
		"gitlab.example.com":             "only http and https",
		"":                               "only http and https",
		"https://":                       "url names no host",
		"https://user:pass word@host":    "url is not usable",
		"https://user:secret@ho st/path": "url is not usable",
	} {
		_, err := baseURL(configured)
		require.ErrorIs(t, err, ErrClient, configured)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestRequestsCarryTheCommonHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) { w.WriteHeader(http.StatusNoContent) })
		require.NoError(t, s.client.UnregisterRunner(t.Context(), CredentialsOf(testRunner())))
		r := s.all()[0]
		require.Equal(t, "/sub/api/v4/runners", r.URL.Path)
		require.Equal(t, "gitlab-runner 1.2.3 (main; go1; linux/amd64)", r.Header.Get("User-Agent"))
		require.Regexp(t, `^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$`, r.Header.Get("X-Request-Id"))
		require.Equal(t, "application/json", r.Header.Get("Content-Type"))
		require.Empty(t, r.Header.Get("Accept"), "no JSON is expected")
		require.Equal(t, testToken, r.Header.Get("RUNNER-TOKEN"))
		require.Equal(t, r.Header.Get("X-Request-Id"), s.logs.LastEntry().Data["correlation_id"])
	})
}

func TestTheServersCorrelationIDIsPreferred(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) {
			w.Header().Set("X-Request-Id", "theirs")
			w.WriteHeader(http.StatusNoContent)
		})
		require.Equal(t, "theirs", s.client.RequestJob(t.Context(), testRunner(), testInfo(s), nil).CorrelationID)
	})
}

func TestErrorsNameTheRequestAndTheServersWordsButNoSecret(t *testing.T) {
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string
	}{
		"JSON message": {
			func(w http.ResponseWriter) { answerJSON(w, 400, `{"message":{"tag_list":["can't be blank","x"]}}`) },
			"DELETE http://gitlab.example.com/sub/api/v4/runners: 400 Bad Request (tag_list: can't be blank; x)"},
		"no message": {
			func(w http.ResponseWriter) { w.WriteHeader(400) },
			"DELETE http://gitlab.example.com/sub/api/v4/runners: 400 Bad Request"},
		"message that repeats the status": {
			func(w http.ResponseWriter) { answerJSON(w, 400, `{"message":"400 Bad Request"}`) },
			"DELETE http://gitlab.example.com/sub/api/v4/runners: 400 Bad Request"},
		"redirect that would change the method": {
			func(w http.ResponseWriter) {
				w.Header().Set("Location", "https://u:secret@new.example.com/x?secret=1")
				w.WriteHeader(301)
			},
			"301 Moved Permanently, the server points to https://new.example.com/x"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, func(w http.ResponseWriter, _ received) { test.answer(w) })
				err := s.client.UnregisterRunner(t.Context(), CredentialsOf(testRunner()))
				require.ErrorContains(t, err, test.want)
				for _, secret := range []string{"password", "secret", testToken} {
					require.NotContains(t, err.Error(), secret)
					require.NotContains(t, s.logged(), secret)
				}
			})
		})
	}
}

func TestTransportErrorsHideTheURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(http.ResponseWriter, received) { panic(http.ErrAbortHandler) })
		err := s.client.UnregisterRunner(t.Context(), CredentialsOf(testRunner()))
		require.ErrorContains(t, err, "DELETE http://gitlab.example.com/sub/api/v4/runners: EOF")
		require.NotContains(t, err.Error(), "password")
	})
}

func TestMovedRequestsAreFollowedIfTheyStayTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) {
			if r.Host != "new.example.com" {
				w.Header().Set("Location", "http://new.example.com"+r.URL.Path)
				w.WriteHeader(http.StatusPermanentRedirect)
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
		require.NoError(t, s.client.UnregisterRunner(t.Context(), CredentialsOf(testRunner())))
		requests := s.all()
		require.Len(t, requests, 2)
		require.Equal(t, "DELETE", requests[1].Method)
		require.Equal(t, requests[0].body, requests[1].body)
	})
}

func TestConnectionsAreReusedUntilTheirTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, _ received) { w.WriteHeader(http.StatusNoContent) })
		s.client.maxAge = time.Minute
		request := func() {
			require.NoError(t, s.client.UnregisterRunner(t.Context(), CredentialsOf(testRunner())))
			synctest.Wait()
		}
		request()
		request()
		require.Equal(t, 1, s.dials)
		time.Sleep(59 * time.Second)
		request()
		require.Equal(t, 1, s.dials)
		time.Sleep(time.Second)
		request()
		require.Equal(t, 2, s.dials, "after a minute")
		require.Len(t, s.client.connections, 1)
	})
}

func TestTheStateOfTheQueueBelongsToOneSetOfCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		version := 0
		s := newTestServer(t, func(w http.ResponseWriter, r received) {
			if version++; version < 3 {
				w.Header().Set("X-GitLab-Last-Update", "v"+string(rune('0'+version)))
			}
			w.WriteHeader(http.StatusNoContent)
		})
		other := testRunner()
		other.Token = "glrt-other"
		for range 3 {
			s.client.RequestJob(t.Context(), testRunner(), testInfo(s), nil)
		}
		s.client.RequestJob(t.Context(), other, testInfo(s), nil)
		var sent []any
		for _, r := range s.all() {
			sent = append(sent, decoded(t, r.body)["last_update"])
		}
		require.Equal(t, []any{nil, "v1", "v2", nil}, sent)
	})
}

func TestAnswersAreReadUpToALimit(t *testing.T) {
	a := &answer{header: http.Header{"Content-Type": {"application/json"}}, body: io.NopCloser(endless{})}
	require.ErrorIs(t, a.decode(&struct{}{}), errTooLarge)

	a = &answer{status: 400, header: http.Header{"Content-Type": {"application/json"}}, body: io.NopCloser(endless{})}
	require.ErrorContains(t, a.problem(), "400")
	require.Len(t, a.text(), maxMessage)

	long := `{"message":"` + strings.Repeat("é", 10_000) + `"}`
	require.LessOrEqual(t, len(errorMessage("application/json", []byte(long))), maxShownMessage+len("…"))
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestErrorMessage(t *testing.T) {
	for name, test := range map[string]struct{ kind, body, want string }{
		"text":            {"application/json", `{"message":"no way"}`, "no way"},
		"object":          {"application/json; charset=utf-8", `{"message":{"b":["x","y"],"a":"z"}}`, "a: z, b: x; y"},
		"error":           {"application/json", `{"error":"invalid"}`, "invalid"},
		"lines":           {"application/json", `{"message":"a\n b\u001b[0m"}`, "a b\x1b[0m"},
		"other JSON":      {"application/json", `[1]`, ""},
		"number":          {"application/json", `{"message":1}`, ""},
		"broken JSON":     {"application/json", `{"message":`, ""},
		"HTML":            {"text/html", `{"message":"x"}`, ""},
		"object storage":  {"application/xml", `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>`, "AccessDenied: Request has expired"},
		"other XML":       {"text/xml", `<a/>`, ""},
		"no content type": {"", `x`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, errorMessage(test.kind, []byte(test.body)))
		})
	}
}

func FuzzErrorMessage(f *testing.F) {
	f.Add("application/json", []byte(`{"message":{"a":["b"]}}`))
	f.Add("text/xml", []byte(`<Error><Code>c</Code></Error>`))
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		message := errorMessage(kind, body)
		require.NotContains(t, message, "\n")
		require.LessOrEqual(t, len(message), maxShownMessage+len("…"))
	})
}

func TestRequestsAreRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) { w.WriteHeader(http.StatusInternalServerError) })
		s.client.UpdateJob(t.Context(), testRunner(), JobRef{ID: 42, Token: "t"}, JobUpdate{State: JobRunning})
		require.Len(t, s.samples, 1)
		sample := s.samples[0]
		require.Positive(t, sample.Duration)
		sample.Duration = 0
		require.Equal(t, RequestSample{Endpoint: "update_job", Method: "PUT", Runner: "abcdefghi", SystemID: "s_0123456789ab", Status: 500}, sample)
		require.Equal(t, map[string]int{"PUT /sub/api/v4/jobs/{id}": 5}, s.attempts)
	})
}

func TestCleanErrorDropsOnlyTheURL(t *testing.T) {
	plain := errors.New("plain")
	require.Equal(t, plain, cleanError(plain))
	_, err := (&http.Client{}).Get("http://user:secret@localhost:0/?secret")
	require.Error(t, err)
	require.NotContains(t, cleanError(err).Error(), "secret")
}

func TestPublicHeaderHasNoSecrets(t *testing.T) {
	require.Equal(t, map[string]string{"Via": "a, b"}, publicHeader(http.Header{
		"Via": {"a", "b"}, "Set-Cookie": {"session"}, "Location": {"https://signed"},
	}))
}
