package network

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func scripted(statuses ...int) (func() (*httpAnswer, error), *int) {
	calls := 0
	return func() (*httpAnswer, error) {
		status := statuses[min(calls, len(statuses)-1)]
		calls++
		return &httpAnswer{Response: &http.Response{
			StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("body")),
		}}, nil
	}, &calls
}

func TestRetriedStatuses(t *testing.T) {
	for status, want := range map[int]bool{
		200: false, 201: false, 204: false, 301: false, 400: false, 401: false, 403: false, 404: false, 409: false,
		412: false, 416: false, 422: false, 501: false, 505: false, 511: false,
		408: true, 429: true, 500: true, 502: true, 503: true, 504: true, 512: true, 520: true, 599: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			attempt, calls := scripted(status)
			got, attempts, err := withRetries(t.Context(), attempt)
			require.NoError(t, err)
			require.Equal(t, status, got.StatusCode)
			require.Equal(t, want, got.pushedBack)
			require.Equal(t, *calls, attempts)
			if want {
				require.Equal(t, maxAttempts, attempts, status)
			} else {
				require.Equal(t, 1, attempts, status)
			}
		})
	}
}

func TestRetriesEndWithSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempt, _ := scripted(503, 429, 201)
		began := time.Now()
		got, attempts, err := withRetries(t.Context(), attempt)
		require.NoError(t, err)
		require.Equal(t, 201, got.StatusCode)
		require.True(t, got.pushedBack)
		require.Equal(t, 3, attempts)
		require.LessOrEqual(t, time.Since(began), 300*time.Millisecond)
		require.GreaterOrEqual(t, time.Since(began), 150*time.Millisecond)
	})
}

func TestTransportErrorsAreNotRetried(t *testing.T) {
	broken := errors.New("broken")
	calls := 0
	got, attempts, err := withRetries(t.Context(), func() (*httpAnswer, error) { calls++; return nil, broken })
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, attempts)
	require.Equal(t, 1, calls)
	require.False(t, got.pushedBack)
}

func TestTheWaitEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Millisecond, func() { cancel(cause) })
		attempt, calls := scripted(503)
		began := time.Now()
		got, _, err := withRetries(ctx, attempt)
		require.ErrorIs(t, err, cause)
		require.True(t, got.pushedBack)
		require.Equal(t, 1, *calls)
		require.Equal(t, time.Millisecond, time.Since(began))
	})
}

func TestRetryWait(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, test := range map[string]struct {
		header   http.Header
		attempts int
		min, max time.Duration
	}{
		"first":                         {nil, 1, 50 * time.Millisecond, 100 * time.Millisecond},
		"fourth":                        {nil, 4, 400 * time.Millisecond, 800 * time.Millisecond},
		"never more than a minute":      {nil, 1000, 30 * time.Second, time.Minute},
		"Retry-After":                   {http.Header{"Retry-After": {"7"}}, 1, 7 * time.Second, 7 * time.Second},
		"Retry-After as a date":         {http.Header{"Retry-After": {now.Add(time.Hour).Format(time.RFC1123)}}, 1, 50 * time.Millisecond, 100 * time.Millisecond},
		"Retry-After that is negative":  {http.Header{"Retry-After": {"-7"}}, 1, 50 * time.Millisecond, 100 * time.Millisecond},
		"Retry-After that is absurd":    {http.Header{"Retry-After": {"9999999999"}}, 1, maxAskedWait, maxAskedWait},
		"reset time":                    {http.Header{"Ratelimit-Resettime": {now.Add(9 * time.Second).Format(time.RFC1123)}, "Retry-After": {"7"}}, 1, 9 * time.Second, 9 * time.Second},
		"reset time that has passed":    {http.Header{"Ratelimit-Resettime": {now.Add(-time.Second).Format(time.RFC1123)}, "Retry-After": {"7"}}, 1, 7 * time.Second, 7 * time.Second},
		"reset time that is far ahead":  {http.Header{"Ratelimit-Resettime": {now.Add(24 * time.Hour).Format(time.RFC1123)}}, 1, maxAskedWait, maxAskedWait},
		"reset time that is not a date": {http.Header{"Ratelimit-Resettime": {"soon"}}, 1, 50 * time.Millisecond, 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				wait := retryWait(test.header, test.attempts, now)
				require.GreaterOrEqual(t, wait, test.min)
				require.LessOrEqual(t, wait, test.max)
			}
		})
	}
}

func TestMetricPath(t *testing.T) {
	require.Equal(t, "/api/v4/jobs/{id}/trace", metricPath("/api/v4/jobs/123/trace"))
	require.Equal(t, "/api/v4/jobs/request", metricPath("/api/v4/jobs/request"))
}
