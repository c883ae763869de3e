package connector

import (
	"fmt"
	"sync"
)

// maxStderr is the number of bytes of a command's standard error that is kept.
const maxStderr = 32<<10 - 1

// tail keeps the last maxStderr bytes written to it.
type tail struct {
	mu      sync.Mutex
	ring    []byte
	start   int
	omitted int
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()

	written := len(p)
	if skip := len(p) - maxStderr; skip > 0 {
		t.omitted += skip
		p = p[skip:]
	}
	free := min(maxStderr-len(t.ring), len(p))
	t.ring = append(t.ring, p[:free]...)
	for p = p[free:]; len(p) > 0; {
		n := copy(t.ring[t.start:], p)
		t.start = (t.start + n) % maxStderr
		t.omitted += n
		p = p[n:]
	}
	return written, nil
}

// String returns the kept text, made fit for an error, after the number of bytes before it.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()

	text := cleanText(string(t.ring[t.start:]) + string(t.ring[:t.start]))
	if t.omitted > 0 {
		return fmt.Sprintf("omitted %d... %s", t.omitted, text)
	}
	return text
}
