// Package transcript keeps what a program writes while a test reads it. Only tests may import it.
package transcript

import (
	"strings"
	"sync"
)

// Log is all that was written so far, whatever wrote it. The zero value is empty. It is safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write adds to the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// Close does nothing, for those who close what they wrote to: what was written stays.
func (l *Log) Close() error { return nil }

// String is the log so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
