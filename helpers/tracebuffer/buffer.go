// Package tracebuffer keeps the log of a job in a temporary file until it was sent.
//
// What it guarantees: the log is valid UTF-8, however it was cut into writes; it does not grow beyond
// its limit but for one notice that says so; Size and Checksum describe exactly the bytes that ReadAt
// returns. A Buffer is the only owner of its file and is safe for concurrent use. Anything may import
// the package.
package tracebuffer

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"unicode/utf8"
)

// DefaultLimit is the usual limit of a log, in bytes.
const DefaultLimit = 4 << 20

// ErrFinished is what Write fails with after Finish or Close.
var ErrFinished = errors.New("the job log is closed")

const writeBuffer = 64 << 10

// Buffer is one log.
type Buffer struct {
	limit int64

	mu       sync.Mutex
	file     *os.File
	out      *bufio.Writer
	size     int64
	checksum uint32
	// partial is the beginning of a character whose rest is still to come.
	partial  []byte
	full     bool
	finished bool
	closed   bool
	err      error
}

// New returns an empty buffer that takes limit bytes. A limit of 0 or less selects DefaultLimit.
func New(limit int64) (*Buffer, error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	file, err := os.CreateTemp("", "gitlab-runner-trace-")
	if err != nil {
		return nil, fmt.Errorf("creating the file of the job log: %w", err)
	}
	return &Buffer{limit: limit, file: file, out: bufio.NewWriterSize(file, writeBuffer)}, nil
}

// Write adds to the log. Once the log is full, what comes is dropped without an error.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.finished || b.closed {
		return 0, ErrFinished
	}
	if b.full || len(p) == 0 {
		return len(p), b.err
	}
	data := p
	if len(b.partial) > 0 {
		data = append(b.partial, p...)
		b.partial = nil
	}
	whole := completeCharacters(data)
	b.partial = append([]byte(nil), data[whole:]...)
	b.store(sanitize(data[:whole]))
	return len(p), b.err
}

// Finish ends the log: a character that never got its end is replaced, and no more is taken.
func (b *Buffer) Finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.finish()
}

func (b *Buffer) finish() {
	if b.finished || b.closed {
		return
	}
	b.finished = true
	if !b.full {
		b.store(sanitize(b.partial))
	}
	b.partial = nil
}

// ReadAt returns up to length bytes of the log from offset on; fewer, or none, where the log ends.
func (b *Buffer) ReadAt(offset int64, length int) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrFinished
	}
	if offset < 0 || offset > b.size {
		return nil, fmt.Errorf("reading the job log at %d: it has %d bytes", offset, b.size)
	}
	if b.err == nil {
		b.fail(b.out.Flush())
	}
	if b.err != nil {
		return nil, b.err
	}
	data := make([]byte, min(int64(length), b.size-offset))
	if _, err := b.file.ReadAt(data, offset); err != nil && !(errors.Is(err, io.EOF) && len(data) == 0) {
		return nil, fmt.Errorf("reading the job log: %w", err)
	}
	return data, nil
}

// Size is the number of bytes of the log.
func (b *Buffer) Size() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size
}

// Checksum is that of all bytes of the log, as GitLab writes it: crc32:00000000.
func (b *Buffer) Checksum() string {
	_, checksum := b.Summary()
	return checksum
}

// Summary is Size and Checksum of the same moment.
func (b *Buffer) Summary() (size int64, checksum string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size, fmt.Sprintf("crc32:%08x", b.checksum)
}

// Close removes the file. The log cannot be read afterwards; Size and Checksum stay.
func (b *Buffer) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	// On some systems an open file cannot be removed, so it is closed first.
	err := errors.Join(b.file.Close(), os.Remove(b.file.Name()))
	if err != nil {
		return fmt.Errorf("removing the file of the job log: %w", err)
	}
	return nil
}

// store adds valid text, or as much of it as there is room for.
func (b *Buffer) store(text []byte) {
	if b.size+int64(len(text)) < b.limit {
		b.append(text)
		return
	}
	room := int(b.limit - b.size)
	for room > 0 && room < len(text) && !utf8.RuneStart(text[room]) {
		room--
	}
	b.append(text[:room])
	b.append(fmt.Appendf(nil,
		"\n\x1b[33;1mJob's log exceeded limit of %d bytes. The job goes on, but no more of its output is kept.\x1b[0;m\n", b.limit))
	b.full = true
	b.partial = nil
}

func (b *Buffer) append(text []byte) {
	if b.err != nil {
		return
	}
	n, err := b.out.Write(text)
	b.size += int64(n)
	b.checksum = crc32.Update(b.checksum, crc32.IEEETable, text[:n])
	b.fail(err)
}

func (b *Buffer) fail(err error) {
	if err != nil && b.err == nil {
		b.err = fmt.Errorf("writing the job log: %w", err)
	}
}

// completeCharacters is the length of data without a character at its end that may yet be completed.
func completeCharacters(data []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(data); back++ {
		start := len(data) - back
		if utf8.RuneStart(data[start]) {
			if !utf8.FullRune(data[start:]) {
				return start
			}
			break
		}
	}
	return len(data)
}

// sanitize replaces every byte that is not part of a character by U+FFFD.
func sanitize(data []byte) []byte {
	if utf8.Valid(data) {
		return data
	}
	clean := make([]byte, 0, len(data)+len(data)/2)
	for len(data) > 0 {
		char, size := utf8.DecodeRune(data)
		clean = utf8.AppendRune(clean, char)
		data = data[size:]
	}
	return clean
}
