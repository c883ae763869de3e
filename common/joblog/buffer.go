package joblog

import (
	"io"
	"sync"
)

// Buffer is a Log whose output is held back until Release, for a part of the job that runs beside
// another one. Afterwards it writes straight through.
type Buffer struct {
	*Log
	parent *Log

	mu       sync.Mutex
	released bool
	held     int
	full     bool
	pieces   []piece
	open     map[Stream]io.WriteCloser
}

type piece struct {
	stream Stream
	data   []byte
	close  bool
}

// bufferLimit bounds what one Buffer holds, in bytes. What comes after it is dropped, with a warning.
const bufferLimit = 4 << 20

// Buffered returns a Buffer that is released into l. The Buffer's own stream is never closed: it ends
// with l's.
func (l *Log) Buffered() *Buffer {
	b := &Buffer{parent: l, open: map[Stream]io.WriteCloser{}}
	b.Log = New(Options{
		Open:     func(s Stream) io.WriteCloser { return bufferStream{b, s} },
		Sections: l.sections,
		Process:  l.process,
		Now:      l.now,
	})
	return b
}

// Release writes everything that was held back, in order, and lets all that follows through.
func (b *Buffer) Release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pieces {
		_ = b.pass(p)
	}
	if b.full {
		b.parent.Warn("output was dropped here: it exceeded %d bytes before it could be shown", bufferLimit)
	}
	b.pieces = nil
	b.released = true
}

// pass hands a piece to the parent. The caller holds the lock.
func (b *Buffer) pass(p piece) error {
	if p.stream == Runner {
		b.parent.write(p.data)
		return nil
	}
	out, ok := b.open[p.stream]
	if p.close {
		if !ok {
			return nil
		}
		delete(b.open, p.stream)
		return out.Close()
	}
	if !ok {
		out = b.parent.Output(p.stream)
		b.open[p.stream] = out
	}
	_, err := out.Write(p.data)
	return err
}

func (b *Buffer) take(p piece) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.released {
		return b.pass(p)
	}
	if b.held+len(p.data) > bufferLimit {
		b.full = true
		return nil
	}
	b.held += len(p.data)
	// What the runner writes stays in its own pieces: a marker makes a line only if it ends a write.
	last := len(b.pieces) - 1
	if last >= 0 && p.stream != Runner && !p.close && !b.pieces[last].close && b.pieces[last].stream == p.stream {
		b.pieces[last].data = append(b.pieces[last].data, p.data...)
		return nil
	}
	p.data = append([]byte(nil), p.data...)
	b.pieces = append(b.pieces, p)
	return nil
}

type bufferStream struct {
	buffer *Buffer
	stream Stream
}

func (s bufferStream) Write(data []byte) (int, error) {
	if err := s.buffer.take(piece{stream: s.stream, data: data}); err != nil {
		return 0, err
	}
	return len(data), nil
}

func (s bufferStream) Close() error {
	return s.buffer.take(piece{stream: s.stream, close: true})
}
