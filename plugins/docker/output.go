package docker

import (
	"io"
	"strings"

	"github.com/docker/docker/pkg/stdcopy"
)

// tail keeps the last part of what is written to it. It is not safe for concurrent use.
type tail struct {
	limit int
	kept  []byte
	cut   bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if excess := len(t.kept) - t.limit; excess > 0 {
		t.kept = append(t.kept[:0], t.kept[excess:]...)
		t.cut = true
	}
	return len(p), nil
}

// String returns the kept text in one line, for an error text.
func (t *tail) String() string {
	text := strings.Join(strings.FieldsFunc(string(t.kept), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	if t.cut {
		return "..." + text
	}
	return text
}

// plainLog turns the engine's framing of two streams into their plain text.
type plainLog struct {
	*io.PipeReader
	raw  io.Closer
	done chan struct{}
}

func newPlainLog(raw io.ReadCloser) *plainLog {
	reader, writer := io.Pipe()
	log := &plainLog{PipeReader: reader, raw: raw, done: make(chan struct{})}
	go func() {
		defer close(log.done)
		_, err := stdcopy.StdCopy(writer, writer, raw)
		writer.CloseWithError(err)
	}()
	return log
}

func (l *plainLog) Close() error {
	err := l.raw.Close()
	l.PipeReader.Close()
	<-l.done
	return err
}
