package common

import (
	"bytes"
	"io"
	"strings"
	"sync"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/masking"
)

// addMask begins a line of a script that has a value hidden from the next line on, for the rest of the job. Such lines
// do not reach the log. They count with proxy_exec only.
const addMask = "::add-mask::"

// longestCommand bounds what is kept of such a line, in bytes.
const longestCommand = 64 << 10

// maskSource is where the values are that a job hides.
type maskSource interface {
	currentRules() *masking.Rules
	hide(values ...string)
}

// growingMask hides what the job hides at each line, also what it came to know while the stream was open. It is safe
// for concurrent use.
type growingMask struct {
	source maskSource
	sink   io.WriteCloser
	// commands says whether lines that begin with addMask count.
	commands bool

	mu     sync.Mutex
	rules  *masking.Rules
	masked io.WriteCloser
	// line is a beginning of a line that may be a command; passing, that the rest of the line is none; dropping, that
	// it is one that is too long.
	line              []byte
	passing, dropping bool
}

func newGrowingMask(source maskSource, sink io.WriteCloser, commands bool) *growingMask {
	m := &growingMask{source: source, sink: sink, commands: commands}
	m.open(source.currentRules())
	return m
}

func (m *growingMask) open(rules *masking.Rules) {
	m.rules, m.masked = rules, rules.NewWriter(unclosed{m.sink})
}

// Write implements io.Writer.
func (m *growingMask) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for rest := p; len(rest) > 0; {
		part := rest
		end := bytes.IndexByte(rest, '\n')
		if end >= 0 {
			part = rest[:end+1]
		}
		rest = rest[len(part):]
		if err := m.take(part, end >= 0); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// take deals with a part of a line, or with its end.
func (m *growingMask) take(part []byte, ended bool) error {
	switch {
	case m.dropping:
	case m.passing || !m.commands:
		if _, err := m.masked.Write(part); err != nil {
			return err
		}
	default:
		m.line = append(m.line, part...)
		if err := m.decide(ended); err != nil {
			return err
		}
	}
	if !ended {
		return nil
	}
	m.passing, m.dropping = false, false
	return m.renew()
}

// decide finds out whether the line is a command.
func (m *growingMask) decide(ended bool) error {
	known := min(len(m.line), len(addMask))
	switch {
	case string(m.line[:known]) != addMask[:known], ended && known < len(addMask):
		line := m.line
		m.line, m.passing = nil, true
		_, err := m.masked.Write(line)
		return err
	case len(m.line) > longestCommand:
		m.line, m.dropping = nil, true
	case ended:
		m.source.hide(strings.TrimSpace(string(m.line[len(addMask):])))
		m.line = nil
	}
	return nil
}

// renew takes what is hidden by now, between two lines.
func (m *growingMask) renew() error {
	rules := m.source.currentRules()
	if rules == m.rules {
		return nil
	}
	err := m.masked.Close()
	m.open(rules)
	return err
}

// Close passes on what is held back.
func (m *growingMask) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.decide(true)
	for _, c := range []io.Closer{m.masked, m.sink} {
		if closeErr := c.Close(); err == nil {
			err = closeErr
		}
	}
	return err
}
