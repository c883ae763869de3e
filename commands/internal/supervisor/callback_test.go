//go:build unix

package supervisor

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
)

func TestCallbacksThatCannotBeMadeAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		callback Callback
		want     string
	}{
		"no url":          {Callback{}, "scheme"},
		"a relative url":  {Callback{URL: "/done"}, "scheme"},
		"another scheme":  {Callback{URL: "file:///etc/passwd"}, "scheme"},
		"no host":         {Callback{URL: "http:///done"}, "no host"},
		"only a port":     {Callback{URL: "http://:80/done"}, "no host"},
		"no url at all":   {Callback{URL: "http://secret\x7f/"}, "invalid"},
		"a bad method":    {Callback{URL: "http://x", Method: "GET /"}, "invalid method"},
		"a bad header":    {Callback{URL: "http://x", Headers: map[string]string{"a b": "secret"}}, "no name of a header"},
		"a split header":  {Callback{URL: "http://x", Headers: map[string]string{"A": "secret\r\nB: c"}}, "header A"},
		"an empty header": {Callback{URL: "http://x", Headers: map[string]string{"": "secret"}}, "no name of a header"},
	} {
		t.Run(name, func(t *testing.T) {
			err := test.callback.check()
			require.ErrorIs(t, err, ErrCallback)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "secret")
		})
	}
	require.NoError(t, Callback{URL: "https://x:1/y?z", Method: "PUT", Headers: map[string]string{"A": "b"}}.check())
}

// answers are those of a server, one after the other: a status, or 0 for none. They are given without a network.
type answers struct {
	start time.Time
	codes []int
	at    []time.Duration
}

// RoundTrip implements [http.RoundTripper].
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	code := a.codes[len(a.at)]
	a.at = append(a.at, time.Since(a.start))
	if code == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
}

func TestACallbackIsRepeatedAFewTimesEverMoreSlowly(t *testing.T) {
	const s = time.Second
	for name, test := range map[string]struct {
		codes []int
		at    []time.Duration
		want  string
	}{
		"accepted":       {[]int{204}, []time.Duration{0}, "The callback was delivered"},
		"accepted later": {[]int{503, 404, 200}, []time.Duration{0, s, 3 * s}, "The callback was delivered"},
		"never accepted": {[]int{500, 500, 301, 401, 500}, []time.Duration{0, s, 3 * s, 7 * s, 15 * s}, "answered with status 500"},
		"no answer":      {[]int{0, 0, 0, 0, 0}, []time.Duration{0, 11 * s, 23 * s, 37 * s, 55 * s}, "The callback was not delivered"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &answers{start: time.Now(), codes: test.codes}
				log, hook := logtest.NewNullLogger()
				c := newCaller(log)
				c.http.Transport = server
				c.deliver(t.Context(), Callback{
					URL:     "https://user:hidden@hooks.example.com/hidden?token=hidden",
					Headers: map[string]string{"Authorization": "hidden"},
				})
				require.Equal(t, test.at, server.at)
				text := logged(t, hook)
				require.Contains(t, text, test.want)
				require.Contains(t, text, `"callback":"https://hooks.example.com"`)
				require.NotContains(t, text, "hidden")
			})
		})
	}
}

func TestACallbackIsGivenUpInItsPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		c := newCaller(log)
		server := &answers{start: time.Now(), codes: []int{500, 500}}
		c.http.Transport = server
		ctx, stop := context.WithTimeoutCause(t.Context(), 1500*time.Millisecond, errors.New("enough"))
		defer stop()
		c.deliver(ctx, Callback{URL: "http://x"})
		require.Less(t, time.Since(server.start), 2*time.Second)
		require.Contains(t, logged(t, hook), "enough")
	})
}

func TestACallbackHasItsMethodAndHeadersAndFollowsNoRedirection(t *testing.T) {
	elsewhere, astray := receiver(t, nil)
	url, received := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere, http.StatusTemporaryRedirect)
	})
	err := newCaller(silent()).call(t.Context(), Callback{
		URL: url + "/done?a=b", Method: "PUT", Headers: map[string]string{"X-Token": "hidden", "host": "other.example.com"},
	})
	require.ErrorContains(t, err, "status 307")
	request := <-received
	require.Equal(t, "/done?a=b", request.RequestURI)
	require.Equal(t, "PUT", request.Method)
	require.Equal(t, "hidden", request.Header.Get("X-Token"))
	require.Equal(t, "other.example.com", request.Host)
	require.Empty(t, astray)
}

func TestARefusedCallbackDoesNotShowItsURL(t *testing.T) {
	url, _ := receiver(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	err := newCaller(silent()).call(t.Context(), Callback{URL: url + "/hidden"})
	require.Error(t, err)
	require.NotContains(t, err.Error(), "hidden")
}
