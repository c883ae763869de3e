package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

const (
	// enginePatience is how long an engine that does not answer may take to come back, as one does that was
	// started anew.
	enginePatience = 3 * time.Second
	enginePoll     = 250 * time.Millisecond
)

// stoppedError says that an engine which worked before has ended.
type stoppedError struct {
	err error
}

func (s stoppedError) Error() string { return s.err.Error() }
func (s stoppedError) Unwrap() error { return s.err }

// stopped says so of an engine that could not be reached.
func stopped(err error) error {
	return stoppedError{fmt.Errorf("the Docker engine has stopped: %w", err)}
}

// isStopped says whether an error was found to mean that the engine has ended.
func isStopped(err error) bool {
	var found stoppedError
	return errors.As(err, &found)
}

// blame says what it means that a call did not reach the engine: that it has stopped, unless it answers again
// within its patience. Other errors are returned as they are.
func (e *executor) blame(ctx context.Context, err error) error {
	if !docker.IsConnectionFailed(err) || isStopped(err) || e.answers(ctx) || ctx.Err() != nil {
		return err
	}
	return stopped(err)
}

// answers says whether the engine answers before its patience is over or ctx ends.
func (e *executor) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, enginePatience)
	defer cancel()
	for {
		if e.engine.Ping(ctx) == nil {
			return true
		}
		if pause.For(ctx, enginePoll) != nil {
			return false
		}
	}
}
