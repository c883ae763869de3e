package bootverify

import (
	"bytes"
	"strings"
	"sync"
	"unicode"

	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
)

const (
	// keptLines are the last lines that are kept, each of at most keptLength bytes.
	keptLines  = 25
	keptLength = 500
	// longest is how much of a line is looked at.
	longest = 16 << 10
)

// tail keeps the last lines of what is written. It is safe for concurrent use.
type tail struct {
	mu      sync.Mutex
	lines   []string
	pending []byte
}

// Write implements io.Writer.
func (t *tail) Write(data []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	written := len(data)
	for {
		line, rest, complete := bytes.Cut(data, []byte{'\n'})
		t.pending = append(t.pending, line[:min(len(line), longest-len(t.pending))]...)
		if !complete {
			return written, nil
		}
		t.keep(t.pending)
		t.pending, data = t.pending[:0], rest
	}
}

// keep adds a line. The caller holds the lock.
func (t *tail) keep(line []byte) {
	text := strings.Map(printable, string(joblog.Plain(line)))
	if len(line) == longest || len(text) > keptLength {
		text = shorten(text)
	}
	if strings.TrimSpace(text) == "" {
		return
	}
	if len(t.lines) == keptLines {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	t.lines = append(t.lines, text)
}

// printable leaves out what could do something to who shows the log: what jobs print is not trusted.
func printable(r rune) rune {
	if unicode.IsControl(r) && r != '\t' {
		return -1
	}
	return r
}

// shorten cuts a line between two words: a half of a secret would not be recognised by who hides secrets.
func shorten(text string) string {
	text = text[:min(len(text), keptLength)]
	return text[:strings.LastIndexAny(text, " \t")+1] + "…"
}

// text is what was kept.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) > 0 {
		t.keep(t.pending)
		t.pending = nil
	}
	return strings.Join(t.lines, "\n")
}
