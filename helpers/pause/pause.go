// Package pause waits between two tries of something.
//
// A pause ends with its context at once, so that nobody who is told to stop waits for it. Anybody may import it.
package pause

import (
	"context"
	"time"
)

// For waits. If the context ends first, or has ended before, its cause is the error.
func For(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
