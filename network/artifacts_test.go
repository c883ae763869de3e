package network

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func testJob() JobCredentials { return JobCredentials{ID: 7, Token: "glcbt-job-token", URL: testURL} }

type closeCounter struct {
	io.Reader
	closed *int
}

func (c closeCounter) Close() error {
	*c.closed++
	return nil
}

func TestUploadArtifactsStates(t *testing.T) {
	for name, test := range map[string]struct {
		status   int
		location string
		want     UploadState
		moved    string
		tries    int
		message  string
	}{
		"created":                        {201, "", UploadSucceeded, "", 1, "Uploading artifacts to coordinator... ok"},
		"forbidden":                      {403, "", UploadForbidden, "", 1, "Uploading artifacts to coordinator... forbidden"},
		"too large":                      {413, "", UploadTooLarge, "", 1, "Uploading artifacts to coordinator... too large archive"},
		"unavailable":                    {503, "", UploadServiceUnavailable, "", 5, "Uploading artifacts to coordinator... service unavailable"},
		"trouble":                        {500, "", UploadFailed, "", 5, "Uploading artifacts to coordinator... failed"},
		"bad request":                    {400, "", UploadFailed, "", 1, "Uploading artifacts to coordinator... failed"},
		"redirected":                     {307, "https://other.example.com/x/y?z=1", UploadRedirected, "https://user:password@other.example.com/sub", 1, "Uploading artifacts to coordinator... redirected"},
		"redirected nowhere":             {307, "", UploadFailed, "", 1, "Uploading artifacts to coordinator... failed"},
		"redirected to a path":           {307, "/elsewhere", UploadFailed, "", 1, "Uploading artifacts to coordinator... failed"},
		"redirected to a strange scheme": {307, "file://host/x", UploadFailed, "", 1, "Uploading artifacts to coordinator... failed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, func(w http.ResponseWriter, r received) {
					if test.location != "" {
						w.Header().Set("Location", test.location)
					}
					w.WriteHeader(test.status)
				})
				opened, closed := 0, 0
				state, location := s.client.UploadArtifacts(t.Context(), testJob(), ArtifactUpload{
					BaseName: "bin-main.zip", ExpireIn: "1 week", Format: "zip", Type: "archive",
					Open: func() (io.ReadCloser, error) {
						opened++
						return closeCounter{strings.NewReader("content"), &closed}, nil
					},
				})
				require.Equal(t, test.want, state)
				require.Equal(t, test.moved, location)
				require.Equal(t, test.message, s.logs.LastEntry().Message)
				require.Equal(t, test.tries, opened)
				require.Equal(t, test.tries, closed)
				require.NotContains(t, s.logged(), "glcbt-job-token")
				require.NotContains(t, s.logged(), "password")
				requests := s.all()
				require.Len(t, requests, test.tries)
				for _, r := range requests {
					require.Equal(t, "POST /sub/api/v4/jobs/7/artifacts?artifact_format=zip&artifact_type=archive&expire_in=1+week", r.Method+" "+r.URL.RequestURI())
					require.Equal(t, "glcbt-job-token", r.Header.Get("JOB-TOKEN"))
					require.EqualValues(t, -1, r.ContentLength)
					require.Equal(t, requests[0].body, r.body)
					_, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
					require.NoError(t, err)
					form, err := multipart.NewReader(bytes.NewReader(r.body), parameters["boundary"]).ReadForm(1 << 20)
					require.NoError(t, err)
					require.Len(t, form.File["file"], 1)
					file := form.File["file"][0]
					require.Equal(t, "bin-main.zip", file.Filename)
					require.Equal(t, "application/octet-stream", file.Header.Get("Content-Type"))
					content, err := file.Open()
					require.NoError(t, err)
					text, err := io.ReadAll(content)
					require.NoError(t, err)
					require.Equal(t, "content", string(text))
				}
			})
		})
	}
}

func TestUploadLeavesOutEmptyParameters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) { w.WriteHeader(201) })
		state, _ := s.client.UploadArtifacts(t.Context(), testJob(), ArtifactUpload{
			BaseName: "x", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil },
		})
		require.Equal(t, UploadSucceeded, state)
		require.Empty(t, s.all()[0].URL.RawQuery)
	})
}

func TestUploadFailsWithItsContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) { w.WriteHeader(201) })
		for _, open := range []func() (io.ReadCloser, error){
			func() (io.ReadCloser, error) { return nil, errors.New("archive is broken") },
			func() (io.ReadCloser, error) {
				return io.NopCloser(io.MultiReader(strings.NewReader("begin"), failing{errors.New("archive is broken")})), nil
			},
		} {
			state, _ := s.client.UploadArtifacts(t.Context(), testJob(), ArtifactUpload{BaseName: "x", Open: open})
			require.Equal(t, UploadFailed, state)
			require.ErrorContains(t, s.logs.LastEntry().Data["error"].(error), "archive is broken")
		}
		require.Empty(t, s.all(), "the server never saw a whole request")
	})
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestUploadTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) { <-r.Context().Done() })
		upload := ArtifactUpload{
			BaseName: "x", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil },
		}
		for want, set := range map[time.Duration]func(){
			10 * time.Minute: func() {},
			3 * time.Second:  func() { upload.ResponseHeaderTimeout = 3 * time.Second },
			2 * time.Second:  func() { upload.Timeout = 2 * time.Second },
		} {
			upload.Timeout, upload.ResponseHeaderTimeout = 0, 0
			set()
			began := time.Now()
			state, _ := s.client.UploadArtifacts(t.Context(), testJob(), upload)
			require.Equal(t, UploadFailed, state)
			require.Equal(t, want, time.Since(began))
		}
	})
}

func TestUploadLogsResponsesWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) {
			w.Header().Set("Via", "proxy")
			w.Header().Set("Set-Cookie", "secret")
			w.WriteHeader(400)
			_, _ = io.WriteString(w, "details")
		})
		upload := ArtifactUpload{
			BaseName: "x", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("content")), nil },
		}
		s.client.UploadArtifacts(t.Context(), testJob(), upload)
		require.NotContains(t, s.logs.LastEntry().Data, "body")
		upload.LogResponses = true
		s.client.UploadArtifacts(t.Context(), testJob(), upload)
		require.Equal(t, "details", s.logs.LastEntry().Data["body"])
		require.Contains(t, s.logged(), "proxy")
		require.NotContains(t, s.logged(), "secret")
	})
}

func TestDownloadArtifactsStates(t *testing.T) {
	for name, test := range map[string]struct {
		answer  func(w http.ResponseWriter)
		want    DownloadState
		content string
		message string
		detail  string
	}{
		"ok": {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "archive") },
			DownloadSucceeded, "archive", "Downloading artifacts from coordinator... ok", ""},
		"unauthorized": {func(w http.ResponseWriter) { w.WriteHeader(401) },
			DownloadUnauthorized, "", "Downloading artifacts from coordinator... unauthorized", "401"},
		"forbidden by an object storage": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(403)
			_, _ = io.WriteString(w, "<Error><Code>AccessDenied</Code><Message>expired</Message></Error>")
		}, DownloadForbidden, "", "Downloading artifacts from coordinator... forbidden", "AccessDenied: expired"},
		"not found": {func(w http.ResponseWriter) { answerJSON(w, 404, `{"message":"404 Not found"}`) },
			DownloadNotFound, "", "Downloading artifacts from coordinator... not found", "404"},
		"trouble": {func(w http.ResponseWriter) { w.WriteHeader(500) },
			DownloadFailed, "", "Downloading artifacts from coordinator... failed", "500"},
		"no content": {func(w http.ResponseWriter) { w.WriteHeader(204) },
			DownloadFailed, "", "Downloading artifacts from coordinator... failed", "204"},
		"an archive that is cut off": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "arch")
		}, DownloadFailed, "arch", "Downloading artifacts from coordinator... failed", "ended before its announced size"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, func(w http.ResponseWriter, r received) { test.answer(w) })
				var out bytes.Buffer
				require.Equal(t, test.want, s.client.DownloadArtifacts(t.Context(), testJob(), &out, false))
				require.Equal(t, test.content, out.String())
				last := s.logs.LastEntry()
				require.Equal(t, test.message, last.Message)
				if test.detail != "" {
					require.ErrorContains(t, last.Data["error"].(error), test.detail)
				}
				r := s.all()[0]
				require.Equal(t, "GET /sub/api/v4/jobs/7/artifacts", r.Method+" "+r.URL.RequestURI())
				require.Equal(t, "glcbt-job-token", r.Header.Get("JOB-TOKEN"))
				require.Equal(t, "identity", r.Header.Get("Accept-Encoding"))
			})
		})
	}
}

func TestDownloadFollowsRedirectsAndShowsTheTokenToTheServerOnly(t *testing.T) {
	for location, withToken := range map[string]bool{
		"http://storage.example.com/archive?signature=secret": false,
		"/elsewhere": true,
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newTestServer(t, func(w http.ResponseWriter, r received) {
				if strings.HasSuffix(r.URL.Path, "/artifacts") {
					w.Header().Set("Location", location)
					w.WriteHeader(http.StatusFound)
					return
				}
				_, _ = io.WriteString(w, "archive")
			})
			var out bytes.Buffer
			require.Equal(t, DownloadSucceeded, s.client.DownloadArtifacts(t.Context(), testJob(), &out, true))
			require.Equal(t, "archive", out.String())
			requests := s.all()
			require.Len(t, requests, 2)
			require.Equal(t, "true", requests[0].URL.Query().Get("direct_download"))
			require.Equal(t, withToken, requests[1].Header.Get("JOB-TOKEN") != "")
			require.Equal(t, withToken, requests[1].Header.Get("Authorization") != "", "the user info of the URL")
		})
	}
}

func TestDownloadErrorsHideSignedURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) {
			if strings.HasSuffix(r.URL.Path, "/artifacts") {
				w.Header().Set("Location", "http://storage.example.com/archive?signature=secret")
				w.WriteHeader(http.StatusFound)
				return
			}
			panic(http.ErrAbortHandler)
		})
		require.Equal(t, DownloadFailed, s.client.DownloadArtifacts(t.Context(), testJob(), io.Discard, true))
		require.NotContains(t, s.logged(), "secret")
	})
}

func TestDownloadStopsAfterTooManyRedirects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) {
			w.Header().Set("Location", "/again")
			w.WriteHeader(http.StatusFound)
		})
		require.Equal(t, DownloadFailed, s.client.DownloadArtifacts(t.Context(), testJob(), io.Discard, true))
		require.Len(t, s.all(), maxRedirects)
		require.ErrorContains(t, s.logs.LastEntry().Data["error"].(error), "too many redirects")
	})
}

func TestDownloadFailsWithItsWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) { _, _ = io.WriteString(w, "archive") })
		reader, writer := io.Pipe()
		require.NoError(t, reader.CloseWithError(errors.New("disk is full")))
		require.Equal(t, DownloadFailed, s.client.DownloadArtifacts(t.Context(), testJob(), writer, false))
		require.ErrorContains(t, s.logs.LastEntry().Data["error"].(error), "disk is full")
	})
}
