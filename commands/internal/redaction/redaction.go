// Package redaction keeps secrets out of the process log, whoever logs them and in whatever format: known
// values, and whatever begins like a token of GitLab's. Only package commands and what it makes use it.
package redaction

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/masking"
)

// Formatter formats log entries with another formatter and replaces secrets in what comes of it by
// [MASKED]. It is safe for concurrent use.
type Formatter struct {
	mu    sync.Mutex
	inner logrus.Formatter
	// learned are known for good, held for as long as somebody holds them.
	learned map[string]bool
	held    map[string]int
	// rules are nil when they have to be made anew.
	rules *masking.Rules
}

var _ logrus.Formatter = (*Formatter)(nil)

// New returns a formatter that knows no values yet.
func New(inner logrus.Formatter) *Formatter {
	return &Formatter{inner: inner, learned: map[string]bool{}, held: map[string]int{}}
}

// Use replaces the formatter inside.
func (f *Formatter) Use(inner logrus.Formatter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inner = inner
}

// Learn hides values from now on.
func (f *Formatter) Learn(values []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, value := range values {
		if secret(value) && !f.learned[value] {
			f.learned[value] = true
			f.rules = nil
		}
	}
}

// Hold hides values until the returned function is called, which is done once.
func (f *Formatter) Hold(values []string) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, value := range values {
		if secret(value) {
			f.held[value]++
			f.rules = nil
		}
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, value := range values {
			if !secret(value) {
				continue
			}
			if f.held[value]--; f.held[value] == 0 {
				delete(f.held, value)
			}
		}
		f.rules = nil
	}
}

// shortest is the length in bytes of the shortest value that is hidden: hiding shorter ones would make
// the log unreadable and tell what they are.
const shortest = 3

func secret(value string) bool { return len(strings.TrimSpace(value)) >= shortest }

// Format implements logrus.Formatter.
func (f *Formatter) Format(entry *logrus.Entry) ([]byte, error) {
	rules, inner := f.current()
	text, err := inner.Format(entry)
	if err != nil {
		return nil, err
	}
	var out buffer
	writer := rules.NewWriter(&out)
	if _, err := writer.Write(text); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (f *Formatter) current() (*masking.Rules, logrus.Formatter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rules == nil {
		var values []string
		for value := range f.learned {
			values = append(values, spellings(value)...)
		}
		for value := range f.held {
			values = append(values, spellings(value)...)
		}
		f.rules = masking.NewRules(masking.Options{Values: values, TokenPrefixes: masking.DefaultTokenPrefixes()})
	}
	return f.rules, f.inner
}

// spellings are a value as it is, and as formats quote it.
func spellings(value string) []string {
	quoted := strconv.Quote(value)
	out := []string{value, quoted[1 : len(quoted)-1]}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	for _, html := range []bool{false, true} {
		text.Reset()
		encoder.SetEscapeHTML(html)
		if encoder.Encode(value) == nil {
			out = append(out, text.String()[1:text.Len()-2])
		}
	}
	return out
}

// buffer collects what is written.
type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }
