// Package redaction keeps secrets out of the process log, whoever logs them and in whatever format: known
// values, and whatever begins like a token of GitLab's. Only package commands and what it makes use it.
package redaction

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/masking"
)

// Formatter formats log entries with another formatter and replaces secrets in what comes of it by
// [MASKED]. It is safe for concurrent use.
type Formatter struct {
	// tokens hides what begins like a token.
	tokens *masking.Rules

	mu    sync.RWMutex
	inner logrus.Formatter
	// learned are known for good; others are in the index for as long as somebody holds them.
	learned map[string]bool
	values  index
}

var _ logrus.Formatter = (*Formatter)(nil)

// New returns a formatter that knows no values yet.
func New(inner logrus.Formatter) *Formatter {
	return &Formatter{
		tokens: masking.NewRules(masking.Options{TokenPrefixes: masking.DefaultTokenPrefixes()}),
		inner:  inner, learned: map[string]bool{},
	}
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
		if !f.learned[value] {
			f.learned[value] = true
			f.hold(spellings(value))
		}
	}
}

// Hold hides values until the returned function is called, which is done once.
func (f *Formatter) Hold(values []string) (release func()) {
	var all []string
	for _, value := range values {
		all = append(all, spellings(value)...)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold(all)
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, value := range all {
			f.values.remove(value)
		}
	}
}

func (f *Formatter) hold(values []string) {
	for _, value := range values {
		f.values.add(value)
	}
}

// shortest is the length in bytes of the shortest value that is hidden: hiding shorter ones would make
// the log unreadable and tell what they are.
const shortest = 3

// Format implements logrus.Formatter.
func (f *Formatter) Format(entry *logrus.Entry) ([]byte, error) {
	text, err := f.format(entry)
	if err != nil {
		return nil, err
	}
	return f.withoutTokens(text)
}

// format hides the values that are known at this moment.
func (f *Formatter) format(entry *logrus.Entry) (string, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	text, err := f.inner.Format(entry)
	if err != nil {
		return "", err
	}
	return f.values.hide(string(text), masked), nil
}

// Hide replaces in a text what Format replaces in an entry, for what leaves the process by another way than the log.
func (f *Formatter) Hide(text string) string {
	f.mu.RLock()
	text = f.values.hide(text, masked)
	f.mu.RUnlock()
	out, err := f.withoutTokens(text)
	if err != nil {
		return masked
	}
	return string(out)
}

// withoutTokens hides what begins like a token.
func (f *Formatter) withoutTokens(text string) ([]byte, error) {
	var out buffer
	writer := f.tokens.NewWriter(&out)
	if _, err := writer.Write([]byte(text)); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// masked stands in the place of a secret.
const masked = "[MASKED]"

// spellings are a value as it is, and as formats quote it; none if it is too short to be hidden. White space around it
// does not count.
func spellings(value string) []string {
	value = strings.TrimSpace(value)
	if len(value) < shortest {
		return nil
	}
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
	slices.Sort(out)
	return slices.Compact(out)
}

// buffer collects what is written.
type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }
