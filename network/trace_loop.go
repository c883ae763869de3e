package network

import (
	"context"
	"time"
)

// maxPiece is the most of a log that one request carries.
const maxPiece = 1 << 20

// run sends the log and the keep-alives while the job runs.
func (t *Trace) run(ctx context.Context) {
	defer close(t.loop)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due := t.cadence.touchDue(t.committed)
		written := t.written
		if t.unsent() {
			written = nil // Nothing new can be learned from it.
			if t.committed && !t.cadence.patchDue().After(due) {
				due = t.cadence.patchDue()
			}
		}
		timer.Reset(time.Until(due))
		select {
		case <-t.stop:
			// Whatever else is due.
			return
		default:
		}
		select {
		case <-t.stop:
			return
		case <-written:
			t.noteUnsent(time.Now())
			continue
		case <-timer.C:
		}
		if over := t.round(ctx); over {
			t.happen(aborted)
			return
		}
	}
}

func (t *Trace) unsent() bool { return !t.cadence.unsentSince.IsZero() }

// noteUnsent finds out whether there is something to send.
func (t *Trace) noteUnsent(now time.Time) {
	t.cadence.unsentSince = time.Time{}
	if !t.refused && t.buffer.Size() > t.sent {
		t.cadence.unsentSince = now
	}
}

// round does what is due, and says whether the job is over for the server.
func (t *Trace) round(ctx context.Context) bool {
	now := time.Now()
	if t.committed && t.unsent() && !t.cadence.patchDue().After(now) {
		return t.sendPiece(ctx)
	}
	if t.cadence.touchDue(t.committed).After(now) {
		return false
	}
	return t.touch(ctx)
}

func (t *Trace) sendPiece(ctx context.Context) bool {
	result, err := t.patch(ctx)
	now := time.Now()
	t.cadence.lastPatch = now
	if err != nil {
		t.log.WithError(err).Error("The job log cannot be read any more; no more of it is sent")
		t.refused = true
	}
	switch result.State {
	case PatchAborted:
		return true
	case PatchSucceeded, PatchRangeMismatch:
		t.cadence.lastHeard = now
	case PatchNotFound:
		t.refused = true
	}
	t.noteUnsent(now)
	if result.CancelRequested {
		t.happen(canceled)
	}
	return false
}

func (t *Trace) touch(ctx context.Context) bool {
	update := JobUpdate{State: JobRunning}
	update.Size, update.Checksum = t.buffer.Summary()
	result := t.update(ctx, update)
	switch result.State {
	case UpdateAborted:
		return true
	case UpdateSucceeded, UpdateAccepted:
		t.committed = true
		t.cadence.touched(time.Now())
	default:
		t.cadence.touchFailed(time.Now())
	}
	if result.CancelRequested {
		t.happen(canceled)
	}
	return false
}

// patch sends the next piece of the log, if there is one. An error says that the log cannot be read.
func (t *Trace) patch(ctx context.Context) (PatchResult, error) {
	piece, err := t.buffer.ReadAt(min(t.sent, t.buffer.Size()), maxPiece)
	if err != nil {
		return PatchResult{State: PatchFailed, Offset: t.sent}, err
	}
	if len(piece) == 0 {
		return PatchResult{Offset: t.sent}, nil
	}
	result := t.api.PatchTrace(ctx, t.options.Runner, t.options.Job, piece, t.sent, t.options.Debug)
	t.cadence.asked(result.Interval)
	switch result.State {
	case PatchSucceeded, PatchRangeMismatch:
		// A server that has more than there is has what there is.
		t.sent = min(result.Offset, t.buffer.Size())
	}
	return result, nil
}
