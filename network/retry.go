package network

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

const (
	maxAttempts = 5

	firstRetryWait = 100 * time.Millisecond
	maxRetryWait   = 60 * time.Second
	// maxAskedWait bounds what the server may ask for: nothing that waits that long is in time.
	maxAskedWait = 10 * time.Minute

	// maxDrained is how much of an unwanted body is read to keep the connection.
	maxDrained = 64 << 10
)

// withRetries sends a request until it is answered with a status that is final or the attempts are
// used up; then the last answer counts. Errors of the transport are not retried here: only the caller
// knows whether the request may have taken effect. The answer is never nil.
func withRetries(ctx context.Context, attempt func() (*httpAnswer, error)) (*httpAnswer, int, error) {
	pushedBack := false
	for attempts := 1; ; attempts++ {
		got, err := attempt()
		if err != nil {
			return &httpAnswer{pushedBack: pushedBack}, attempts, err
		}
		if !retriable(got.StatusCode) {
			got.pushedBack = pushedBack
			return got, attempts, nil
		}
		pushedBack = true
		if attempts == maxAttempts {
			got.pushedBack = true
			return got, attempts, nil
		}
		wait := retryWait(got.Header, attempts, time.Now())
		drain(got.Body)
		if err := pause.For(ctx, wait); err != nil {
			return &httpAnswer{pushedBack: true}, attempts, err
		}
	}
}

func retriable(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return status >= 512
}

// retryWait is how long to wait after the given number of attempts: what the server asks for, else
// ever longer.
func retryWait(header http.Header, attempts int, now time.Time) time.Duration {
	if reset, err := time.Parse(time.RFC1123, header.Get("RateLimit-ResetTime")); err == nil && reset.After(now) {
		return min(reset.Sub(now), maxAskedWait)
	}
	if seconds, err := strconv.Atoi(header.Get("Retry-After")); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, int(maxAskedWait/time.Second)))*time.Second, maxAskedWait)
	}
	return backoff(firstRetryWait, maxRetryWait, attempts)
}

// backoff doubles first with every attempt, up to limit, and takes off up to half of it so that many
// clients do not come back at once. attempts counts from 1.
func backoff(first, limit time.Duration, attempts int) time.Duration {
	const maxDoublings = 30
	wait := min(first<<min(attempts-1, maxDoublings), limit)
	return wait - rand.N(wait/2+1)
}

func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, maxDrained)
	_ = body.Close()
}

// metricPath replaces the numbers in a path.
func metricPath(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		if _, err := strconv.ParseUint(segment, 10, 64); err == nil {
			segments[i] = "{id}"
		}
	}
	return strings.Join(segments, "/")
}
