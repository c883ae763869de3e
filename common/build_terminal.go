package common

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Terminal lets a user into the container of a job.
type Terminal interface {
	// Offer says how a shell is opened, from now on. It is called at most once.
	Offer(open func(ctx context.Context) (io.ReadWriteCloser, error))
	// Disconnected is closed when nobody is connected.
	Disconnected() <-chan struct{}
	// End tells the user who is connected why the session ends, and ends it.
	End(cause error)
}

// offerTerminal lets users in from the moment on in which there may be a container.
func (b *Build) offerTerminal() {
	if b.options.Terminal != nil {
		b.options.Terminal.Offer(b.executor.OpenTerminal)
	}
}

// awaitTerminal waits, once the scripts have ended, for a user who is still connected: that is what the terminal
// is for when a script failed.
func (b *Build) awaitTerminal(ctx context.Context) {
	if b.options.Terminal == nil {
		return
	}
	// What follows is the end of the container: nobody is to get into it any more.
	defer b.options.Terminal.End(errJobEnded)
	if ctx.Err() != nil {
		return
	}
	gone := b.options.Terminal.Disconnected()
	select {
	case <-gone:
		return
	default:
	}
	limit := min(b.options.TerminalTimeout, time.Until(b.job.Deadline))
	b.job.Log.Info("Terminal is connected, will time out in %s...", limit.Round(time.Second))
	over := time.NewTimer(limit)
	defer over.Stop()
	select {
	case <-gone:
		b.job.Log.Info("Terminal disconnected")
	case <-over.C:
		cause := fmt.Errorf("terminal session timed out (maximum time allowed - %s)", limit.Round(time.Second))
		b.job.Log.Info("%s", cause)
		b.options.Terminal.End(cause)
	case <-ctx.Done():
	}
}

var errJobEnded = errors.New("the job has ended")
