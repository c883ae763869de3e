package network

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

const (
	defaultFinalAttempts = 10
	firstFinalWait       = time.Second
	maxFinalWait         = 60 * time.Minute

	// maxMismatches is how often the server may disagree about the log within one attempt.
	maxMismatches = 5
	// maxUnsettled is how long the server may take to settle the outcome within one attempt.
	maxUnsettled = 10 * time.Minute
)

var (
	errNotTaken   = errors.New("the server did not take it")
	errMismatch   = errors.New("the server does not agree about the job log")
	errUnsettled  = errors.New("the server does not come to an end with it")
	errLogNotSent = errors.New("the job log could not be sent")
)

// reportOutcome repeats the final account until it is taken.
func (t *Trace) reportOutcome(ctx context.Context, o Outcome) error {
	update := JobUpdate{State: JobSuccess}
	if !o.Success {
		update.State, update.FailureReason, update.ExitCode = JobFailed, o.Reason, o.ExitCode
	}
	update.Size, update.Checksum = t.buffer.Summary()
	limit := t.options.Runner.JobStatusFinalUpdateRetryLimit
	if limit <= 0 {
		limit = defaultFinalAttempts
	}
	for attempt := 1; ; attempt++ {
		t.cadence.interval = defaultUpdateInterval
		err := t.tryOutcome(ctx, update)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("given up: %w: %w", context.Cause(ctx), err)
		}
		if attempt >= limit {
			return fmt.Errorf("given up after %d attempts: %w", attempt, err)
		}
		wait := finalWait(attempt)
		if asked := t.cadence.interval; asked != defaultUpdateInterval {
			wait = max(wait, asked)
		}
		t.log.WithError(err).WithField("retry-in", wait).Warn("Reporting the outcome of the job failed, will be retried")
		if err := pause.For(ctx, wait); err != nil {
			return fmt.Errorf("given up: %w", err)
		}
	}
}

// finalWait doubles with every attempt. It is longer by a fifth and up to half as long again at random, so that many
// jobs do not come back at once, and ten attempts outlast ten minutes without a server in any case.
func finalWait(attempts int) time.Duration {
	const maxDoublings = 12
	wait := firstFinalWait << min(attempts-1, maxDoublings)
	return min(wait+wait/5+rand.N(wait*3/10), maxFinalWait)
}

func (t *Trace) tryOutcome(ctx context.Context, update JobUpdate) error {
	began := time.Now()
	for mismatches := 0; ; {
		if err := t.sendRest(ctx); err != nil {
			return err
		}
		switch t.update(ctx, update).State {
		case UpdateSucceeded, UpdateAborted:
			return nil
		case UpdateAccepted:
			if time.Since(began) > maxUnsettled {
				return errUnsettled
			}
		case UpdateLogMismatch:
			if mismatches++; mismatches > maxMismatches {
				return errMismatch
			}
			t.sent = 0
		default:
			return errNotTaken
		}
		if err := pause.For(ctx, t.cadence.interval); err != nil {
			return err
		}
	}
}

// sendRest sends what is left of the log, as far as the server wants it.
func (t *Trace) sendRest(ctx context.Context) error {
	if t.refused || t.hasHappened(aborted) {
		return nil
	}
	for mismatches := 0; t.sent < t.buffer.Size(); {
		result, err := t.patch(ctx)
		if err != nil {
			// The outcome matters more than what cannot be had.
			t.log.WithError(err).Error("The job log cannot be read any more; the rest of it is lost")
			t.refused = true
			return nil
		}
		switch result.State {
		case PatchSucceeded:
		case PatchRangeMismatch:
			if mismatches++; mismatches > maxMismatches {
				return errMismatch
			}
			// The first one may come from a request that was cut off, and is settled by now.
			if mismatches > 1 {
				if err := pause.For(ctx, t.cadence.interval); err != nil {
					return err
				}
			}
		case PatchAborted, PatchNotFound:
			return nil
		default:
			return errLogNotSent
		}
	}
	return nil
}
