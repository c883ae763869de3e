// Package inputs puts the inputs of a job into the places of its payload where templates such as
// ${{ job.inputs.target }} stand.
//
// What it guarantees: a payload without inputs is left as it is, so that other uses of ${{ }} survive;
// a template that cannot be evaluated gives an error that names the place and the template, and never
// the value of an input; an input that is sensitive is in no result; what a job's templates produce is
// bounded. The build imports it; it imports spec.
package inputs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

const (
	opening = "${{"
	closing = "}}"
	// maxOutput is how much text all templates of a job may produce, in bytes.
	maxOutput = 8 << 20
	// maxExpression is the longest text between the delimiters, in bytes.
	maxExpression = 4 << 10
)

// FailureKind is what kind of failure an error of this package is, as metrics name it.
type FailureKind string

// The kinds of failures.
const (
	FailureParse      FailureKind = "parse"
	FailureEvaluation FailureKind = "evaluation"
	FailureSensitive  FailureKind = "sensitive_unsupported"
)

// KindOf returns the kind of failure that an error of New, Expand or Apply is.
func KindOf(err error) FailureKind {
	var failure *failedEvaluation
	if errors.As(err, &failure) {
		return failure.kind
	}
	return FailureParse
}

// failedEvaluation is an error in a template that could be read.
type failedEvaluation struct {
	kind FailureKind
	text string
}

func (e *failedEvaluation) Error() string { return e.text }

func evaluation(format string, args ...any) error {
	return &failedEvaluation{kind: FailureEvaluation, text: fmt.Sprintf(format, args...)}
}

// Set are the inputs of one job. It is for one goroutine.
type Set struct {
	values    map[string]any
	sensitive map[string]bool
	produced  int
}

// New reads inputs. The last of several with the same key wins. It fails for content that is no JSON.
func New(list []spec.Input) (*Set, error) {
	s := &Set{values: map[string]any{}, sensitive: map[string]bool{}}
	for _, input := range list {
		decoder := json.NewDecoder(bytes.NewReader(input.Value.Content))
		// The digits of a number stay as they were written.
		decoder.UseNumber()
		var value any
		if err := decoder.Decode(&value); err != nil {
			return nil, fmt.Errorf("reading the input %q: %w", input.Key, err)
		}
		s.values[input.Key] = value
		s.sensitive[input.Key] = input.Value.Sensitive
	}
	return s, nil
}

// Expand replaces every template in a text by its value, which has to be a string.
func (s *Set) Expand(text string) (string, error) {
	if !strings.Contains(text, opening) {
		return text, nil
	}
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, opening)
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		value, length, err := s.template(rest)
		if err != nil {
			return "", err
		}
		if s.produced += len(value); s.produced > maxOutput {
			return "", evaluation("the templates of the job produce more than %d bytes", maxOutput)
		}
		out.WriteString(value)
		text = rest[length:]
	}
}

// template evaluates the template at the beginning of a text, after its opening. It returns the length
// of what it read.
func (s *Set) template(text string) (value string, length int, err error) {
	p := &parser{text: text, set: s}
	result, err := p.template()
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", excerpt(text), err)
	}
	value, ok := result.(string)
	if !ok {
		return "", 0, evaluation("%s: the value is %s, not a string: convert it with str()", excerpt(text), kindOf(result))
	}
	return value, p.at, nil
}

// excerpt is the template that a text begins with, as the user wrote it.
func excerpt(text string) string {
	const limit = 80
	inner, _, found := strings.Cut(text, closing)
	if !found || len(inner) > limit {
		return opening + strings.ToValidUTF8(inner[:min(len(inner), limit)], "") + "…"
	}
	return opening + inner + closing
}

// input returns the value of one input.
func (s *Set) input(name string) (any, error) {
	value, ok := s.values[name]
	if !ok {
		return nil, evaluation("there is no input %q; the job has %s", name, strings.Join(slices.Sorted(maps.Keys(s.values)), ", "))
	}
	if s.sensitive[name] {
		return nil, &failedEvaluation{FailureSensitive, fmt.Sprintf("the input %q is sensitive and cannot be used here", name)}
	}
	return value, nil
}

// text is the result of str().
func text(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case scope:
		return "", evaluation("str() takes the value of an input, not all of them")
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return "", err
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

func kindOf(value any) string {
	switch value.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case []any:
		return "an array"
	case map[string]any:
		return "a struct"
	default:
		return "no value of an input"
	}
}
