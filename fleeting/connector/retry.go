package connector

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = time.Second
)

// retry calls attempt until it succeeds, timeout is over, ctx ends, or an attempt fails in a way that
// no repetition can change. Each attempt has a context of its own, bounded by attemptTimeout at first.
func retry[T any](ctx context.Context, timeout time.Duration, attempt func(context.Context) (T, error)) (T, error) {
	var (
		none  T
		last  error
		tries int
	)

	overall, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	end, _ := overall.Deadline()

	limit := attemptTimeout
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		begun := time.Now()
		result, err := tryOnce(overall, limit, attempt)
		if err == nil {
			return result, nil
		}
		tries++
		if time.Since(begun) >= limit {
			limit = min(2*limit, maxAttemptTimeout)
		}

		// An attempt which the end of the time cut short says less than the one before it.
		if last == nil || overall.Err() == nil && time.Now().Before(end) {
			last = err
		}
		if changed := (*HostKeyError)(nil); errors.As(err, &changed) && !changed.FromPlugin {
			return none, err
		}

		select {
		case <-overall.Done():
		case <-time.After(pause):
			continue
		}
		if ctx.Err() != nil {
			return none, fmt.Errorf("%w (after %d tries, last error: %w)", contextError(ctx), tries, last)
		}
		return none, fmt.Errorf("after retrying %d times during %s timeout: %w", tries, timeout, last)
	}
}

func tryOnce[T any](ctx context.Context, limit time.Duration, attempt func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return attempt(ctx)
}

// contextError is the error of an ended context, which also is its cause for errors.Is.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
