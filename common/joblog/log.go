// Package joblog is the job log as the user reads it: the runner's own lines, the sections, and the
// streams of the scripts. What is written passes through a pipeline per stream (masking, timestamps)
// that the creator of a Log provides. A Log is safe for concurrent use; lines are never mixed.
//
// The build creates it, executors write to it.
package joblog

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Stream is one source of output. Its number and kind stand in the timestamps of its lines.
type Stream struct {
	Number uint8
	// Kind is 'O' for standard output, 'E' for standard error.
	Kind byte
}

// The streams of every job.
var (
	Runner    = Stream{Number: 0x00, Kind: 'O'}
	ScriptOut = Stream{Number: 0x01, Kind: 'O'}
	ScriptErr = Stream{Number: 0x01, Kind: 'E'}
)

// Service is the stream of the service with the given index.
func Service(index int) Stream { return Stream{Number: uint8(min(0x0f+index, 0xff)), Kind: 'O'} }

// The escape sequences of the runner's own lines.
const (
	clearLine  = "\x1b[0K"
	reset      = "\x1b[0;m"
	boldRed    = "\x1b[31;1m"
	boldGreen  = "\x1b[32;1m"
	boldCyan   = "\x1b[36;1m"
	yellow     = "\x1b[0;33m"
	newLine    = "\n"
	prefixWarn = "WARNING: "
	prefixErr  = "ERROR: "
)

// Log is one job's log.
type Log struct {
	open     func(Stream) io.WriteCloser
	sections bool
	process  logrus.FieldLogger
	now      func() time.Time

	mu     sync.Mutex
	runner io.WriteCloser
}

// Options say how a Log is made.
type Options struct {
	// Open returns the pipeline of a stream. It is called once per use of a stream, and closing what
	// it returns flushes what is held back.
	Open func(Stream) io.WriteCloser
	// Sections turns the collapsible sections on: the server must have asked for them.
	Sections bool
	// Process receives the runner's own lines too: plain ones at debug level, the others at theirs.
	Process logrus.FieldLogger
	// Now is the clock of section markers.
	Now func() time.Time
}

// New returns a Log. Close it to flush it.
func New(o Options) *Log {
	return &Log{open: o.Open, sections: o.Sections, process: o.Process, now: o.Now, runner: o.Open(Runner)}
}

// Close flushes the runner's own stream.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runner.Close()
}

// Reopen flushes the runner's own stream and opens it anew: lines from now on pass through the pipeline
// that Open returns now. It is called between two lines.
func (l *Log) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.runner.Close()
	l.runner = l.open(Runner)
	return err
}

// Print writes a plain line.
func (l *Log) Print(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.line(clearLine + text)
	l.process.Debug(text)
}

// Info writes a line in bold green.
func (l *Log) Info(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.line(boldGreen + text)
	l.process.Info(text)
}

// Warn writes a warning.
func (l *Log) Warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.line(yellow + prefixWarn + text)
	l.process.Warn(text)
}

// Error writes an error.
func (l *Log) Error(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.line(boldRed + prefixErr + text)
	l.process.Error(text)
}

// Result writes the last line of a job, which the process log is told elsewhere: bold green for
// success, bold red and marked as an error otherwise.
func (l *Log) Result(success bool, text string) {
	if success {
		l.line(boldGreen + text)
		return
	}
	l.line(boldRed + prefixErr + text)
}

// Section runs a part of the job under a title, as a section that the user can collapse.
func (l *Log) Section(name, title string, run func() error) error {
	l.marker("section_start", name)
	if title != "" {
		l.line(clearLine + boldCyan + title + reset)
	}
	defer l.marker("section_end", name)
	return run()
}

// Output opens a stream for a script or a service. The caller closes it.
func (l *Log) Output(stream Stream) io.WriteCloser {
	return l.open(stream)
}

func (l *Log) line(text string) {
	l.write([]byte(text + reset + newLine))
}

func (l *Log) marker(kind, name string) {
	if l.sections {
		l.write(fmt.Appendf(nil, "%s:%d:%s\r%s", kind, l.now().Unix(), name, clearLine))
	}
}

// write drops errors: the trace takes everything until it is closed, and there is nobody to tell.
func (l *Log) write(data []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.runner.Write(data)
}

// Discard is a Log that nobody reads, for parts of a job that run outside any.
func Discard(process logrus.FieldLogger) *Log {
	return New(Options{
		Open:    func(Stream) io.WriteCloser { return nopCloser{io.Discard} },
		Process: process,
		Now:     time.Now,
	})
}

// Block writes a text of several lines as it is, in one piece.
func (l *Log) Block(text string) {
	if !strings.HasSuffix(text, newLine) {
		text += newLine
	}
	l.write([]byte(text))
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
