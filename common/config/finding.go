package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// Level says how bad a finding is.
type Level string

// With an error, the file or a part of it cannot be used. With a warning, it does not do what it says.
const (
	LevelError   Level = "error"
	LevelWarning Level = "warning"
)

// Finding is something in a configuration that is wrong or has no effect.
type Finding struct {
	Level Level `json:"level"`
	// Line and Column are where it is in the file, counted from 1, or 0 if that is not known.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Key is the path of the key, such as runners[0].autoscaler.max_instances. Where a key is missing, it
	// is what should be there.
	Key string `json:"key,omitempty"`
	// Runner is the name of the entry.
	Runner  string `json:"runner,omitempty"`
	Message string `json:"message"`
}

// String is the finding on one line, without the name of the file.
func (f Finding) String() string {
	text := fmt.Sprintf("%s: %s", f.Level, f.Message)
	if f.Key != "" {
		text = fmt.Sprintf("%s: %s: %s", f.Level, f.Key, f.Message)
	}
	if f.Line > 0 {
		text = fmt.Sprintf("%d:%d: %s", f.Line, f.Column, text)
	}
	return text
}

// Vocabulary is what a file may name that this package does not know. What is nil is not checked.
type Vocabulary struct {
	// Executors are those of this program.
	Executors []string
	// FeatureFlags are all that are known.
	FeatureFlags []string
}

// Check reads the file at path and returns all that is wrong with it, in the order of its lines. The error
// says that the file cannot be read. It changes nothing.
func Check(path string, v Vocabulary) ([]Finding, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	return check(path, string(data), v), nil
}

func check(path, text string, v Vocabulary) []Finding {
	var document map[string]any
	if _, err := toml.Decode(text, &document); err != nil {
		return []Finding{decodeFinding(err)}
	}
	file := &File{Path: path, Config: defaults()}
	decoding := file.decode(text)
	findings := file.misfits
	if decoding == nil {
		findings = file.Findings(v)
	} else if !slices.ContainsFunc(findings, isError) {
		// What the values mean does not matter before they can be read.
		findings = append(findings, decodeFinding(decoding))
	}
	root, err := parseSyntax(text)
	if err != nil {
		// The two libraries do not agree on the file. Without places of keys there is less to be said.
		return findings
	}
	return locate(root, findings)
}

// Findings are what is wrong with a file: what keeps it from being used, which a file from Load has none
// of, and what will not do what it says.
func (f *File) Findings(v Vocabulary) []Finding {
	findings := slices.Clone(f.misfits)
	for _, p := range f.problems() {
		findings = append(findings, Finding{Level: LevelError, Key: p.path, Message: p.err.Error()})
	}
	r := review{file: f, vocabulary: v}
	r.run()
	return append(findings, r.findings...)
}

// locate puts findings where their keys are, and in order.
func locate(root *node, findings []Finding) []Finding {
	for i := range findings {
		f := &findings[i]
		if f.Line == 0 && f.Key != "" {
			at := root.find(f.Key)
			f.Line, f.Column = at.line, at.column
		}
		if f.Runner == "" {
			f.Runner = runnerOf(root, f.Key)
		}
	}
	slices.SortStableFunc(findings, func(a, b Finding) int { return a.Line - b.Line })
	return findings
}

func isError(f Finding) bool { return f.Level == LevelError }

// decodeFinding is the decoder's complaint. Its words may hold a part of the file, never a whole line.
func decodeFinding(err error) Finding {
	var parse toml.ParseError
	if errors.As(err, &parse) {
		return Finding{Level: LevelError, Line: parse.Position.Line, Column: parse.Position.Col, Key: parse.LastKey, Message: parse.Message}
	}
	return Finding{Level: LevelError, Message: err.Error()}
}

// runnerOf is the name of the entry that a path leads into.
func runnerOf(root *node, path string) string {
	entry, _, _ := strings.Cut(path, ".")
	if !strings.HasPrefix(entry, "runners[") {
		return ""
	}
	if name := root.find(entry).get("name"); name != nil {
		return name.text
	}
	return ""
}
