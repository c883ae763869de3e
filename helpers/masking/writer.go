// Package masking keeps secrets out of output. A stream passes through three filters, one after the
// other:
//
//   - the values of masked variables become [MASKED]; where several overlap, all of them do together;
//   - the values of query parameters of URLs that carry credentials become [MASKED];
//   - what follows the prefix of a GitLab token becomes [MASKED]; the prefix stays.
//
// What it guarantees: the result does not depend on how the stream is cut into writes; only bytes that
// may be the beginning of a masked variable's value are held back; memory is bounded by the longest
// such value and the largest write; the time it takes is proportional to the length of the stream,
// whatever is in it. One write makes at most one write. Anything may import the package.
package masking

import (
	"io"
	"sync"
)

// Options say what to hide.
type Options struct {
	// Values are replaced wherever they occur. White space around them does not count, and empty ones
	// are not used.
	Values []string
	// TokenPrefixes are used besides PersonalAccessTokenPrefix: see DefaultTokenPrefixes.
	TokenPrefixes []string
}

// Rules are Options made ready for use. They are immutable and serve any number of streams.
type Rules struct {
	secrets, prefixes *automaton
}

// NewRules prepares the rules of a job. The time and memory this takes are proportional to the length
// of all values.
func NewRules(o Options) *Rules {
	return &Rules{secrets: secretAutomaton(o.Values), prefixes: prefixAutomaton(o.TokenPrefixes)}
}

// NewWriter returns a writer that hides one stream's secrets and passes the rest on to w. Close passes
// on what is held back and closes w. The writer is safe for concurrent use.
func (r *Rules) NewWriter(w io.WriteCloser) io.WriteCloser {
	return &writer{w: w, values: values{secrets: r.secrets}, tokens: tokens{prefixes: r.prefixes}}
}

// NewWriter is NewRules and Rules.NewWriter for a single stream.
func NewWriter(w io.WriteCloser, o Options) io.WriteCloser { return NewRules(o).NewWriter(w) }

type writer struct {
	mu         sync.Mutex
	w          io.WriteCloser
	values     values
	parameters parameters
	tokens     tokens
}

func (m *writer) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.pass(m.values.process(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (m *writer) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.pass(m.values.flush())
	if closeErr := m.w.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (m *writer) pass(data []byte) error {
	data = m.tokens.process(m.parameters.process(data))
	if len(data) == 0 {
		return nil
	}
	_, err := m.w.Write(data)
	return err
}
