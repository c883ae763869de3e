// Package meter tells the user how far a transfer is while it goes on. The helper's caches and artifacts use
// it.
package meter

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/docker/go-units"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
)

// Meter tells of transfers. One with Every of 0 tells nothing.
type Meter struct {
	Console *console.Console
	// Every is the time between two messages about one transfer (TRANSFER_METER_FREQUENCY).
	Every time.Duration
}

// Begin begins to tell of a transfer, of which label says what it does. Total is its size in bytes, negative or
// 0 if it is not known. The caller ends it.
func (m Meter) Begin(label string, total int64) *Transfer {
	t := &Transfer{}
	if m.Every <= 0 {
		return t
	}
	t.stop, t.stopped = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(t.stopped)
		begin := time.Now()
		ticker := time.NewTicker(m.Every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				m.Console.Print("%s", describe(label, t.done.Load(), total, time.Since(begin)))
			case <-t.stop:
				return
			}
		}
	}()
	return t
}

// Transfer counts the bytes of one transfer. It is safe for concurrent use.
type Transfer struct {
	done          atomic.Int64
	stop, stopped chan struct{}
}

// Reader counts what is read of r.
func (t *Transfer) Reader(r io.Reader) io.Reader {
	return counted{r, t}
}

// Writer counts what is written to w.
func (t *Transfer) Writer(w io.Writer) io.Writer {
	return io.MultiWriter(w, countedWriter{t})
}

// Add counts bytes that are not seen by a reader or a writer.
func (t *Transfer) Add(n int64) {
	t.done.Add(n)
}

// Restart begins to count anew, for another try.
func (t *Transfer) Restart() {
	t.done.Store(0)
}

// End ends the messages. No more come after it has returned.
func (t *Transfer) End() {
	if t.stop != nil {
		close(t.stop)
		<-t.stopped
	}
}

type counted struct {
	io.Reader
	transfer *Transfer
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.transfer.done.Add(int64(n))
	return n, err
}

type countedWriter struct{ transfer *Transfer }

func (c countedWriter) Write(p []byte) (int, error) {
	c.transfer.done.Add(int64(len(p)))
	return len(p), nil
}

func describe(label string, done, total int64, took time.Duration) string {
	of := ""
	if total > 0 {
		of = fmt.Sprintf(" of %s (%d%%)", units.BytesSize(float64(total)), done*100/total)
	}
	return fmt.Sprintf("%s: %s%s, %s/s", label, units.BytesSize(float64(done)), of, units.BytesSize(float64(done)/max(took.Seconds(), 1e-3)))
}
