// Package timestamps puts a time, and where it comes from, before every line of output, in the form
// that GitLab's log viewer reads:
//
//	2026-08-22T10:11:12.345678Z 01O text
//
// The two digits are the number of the stream, the letter its kind; a plus sign in the place of the
// blank before the text says that the line continues the stream's former one.
//
// What it guarantees: every write to the underlying writer consists of whole lines, so that several
// streams can share it; memory is bounded by the longest line that is waited for, 8 KiB; characters
// of UTF-8 are not torn apart. Anything may import the package.
package timestamps

import (
	"bytes"
	"io"
	"time"
	"unicode/utf8"
)

const (
	// Format is how a time is written.
	Format = "2006-01-02T15:04:05.000000Z"

	// PrefixLength is the length of what stands before the text of a line.
	PrefixLength = len(Format) + len(" 00O ")

	// maxLine is how long a line may get before it is broken.
	maxLine = 8 << 10
)

type writer struct {
	w   io.Writer
	now func() time.Time
	// source is the part of the prefix between the time and the text.
	source [4]byte

	// line is what there is of a line whose end is not known, since began.
	line      []byte
	began     time.Time
	continued bool

	out []byte
}

// NewWriter returns a writer of one stream into w, which is not closed with it. kind is 'O' for
// standard output and 'E' for standard error.
//
// A line that ends a write, has no end of its own and contains a carriage return (as progress bars do)
// is written at once and continued later, and so is one of more than 8 KiB. Any other line is held
// back until its end comes, or Close. The time is that of the first byte of the line. The writer is
// not safe for concurrent use.
func NewWriter(w io.Writer, stream uint8, kind byte, now func() time.Time) io.WriteCloser {
	const digits = "0123456789abcdef"
	return &writer{w: w, now: now, source: [4]byte{' ', digits[stream>>4], digits[stream&0xf], kind}}
}

func (t *writer) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	now := t.now()
	t.out = t.out[:0]
	rest := p
	for {
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			break
		}
		t.hold(rest[:end], now)
		t.emit(len(t.line), false, now)
		rest = rest[end+1:]
	}
	t.hold(rest, now)
	if bytes.IndexByte(rest, '\r') >= 0 {
		if whole := completeCharacters(t.line); whole > 0 {
			t.emit(whole, true, now)
		}
	}
	if err := t.flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close writes what was held back.
func (t *writer) Close() error {
	t.out = t.out[:0]
	if len(t.line) > 0 {
		t.emit(len(t.line), false, t.began)
	}
	return t.flush()
}

func (t *writer) flush() error {
	if len(t.out) == 0 {
		return nil
	}
	_, err := t.w.Write(t.out)
	return err
}

// hold adds to the line, breaking it where it gets too long.
func (t *writer) hold(text []byte, now time.Time) {
	for {
		if len(t.line) == 0 {
			t.began = now
		}
		room := maxLine - len(t.line)
		if len(text) <= room {
			t.line = append(t.line, text...)
			return
		}
		t.line = append(t.line, text[:room]...)
		text = text[room:]
		t.emit(completeCharacters(t.line), true, now)
	}
}

// emit ends the line after its first length bytes; the others, which came now, begin the next one. It
// may be a continuation.
func (t *writer) emit(length int, continues bool, now time.Time) {
	t.out = t.began.UTC().AppendFormat(t.out, Format)
	t.out = append(t.out, t.source[:]...)
	if t.continued {
		t.out = append(t.out, '+')
	} else {
		t.out = append(t.out, ' ')
	}
	t.out = append(t.out, t.line[:length]...)
	t.out = append(t.out, '\n')
	t.line = append(t.line[:0], t.line[length:]...)
	t.began, t.continued = now, continues
}

// completeCharacters is the length of line without a character at its end that may yet be completed.
func completeCharacters(line []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(line); back++ {
		start := len(line) - back
		if utf8.RuneStart(line[start]) {
			if !utf8.FullRune(line[start:]) {
				return start
			}
			break
		}
	}
	return len(line)
}
