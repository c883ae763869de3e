// Package variables is the list of variables of a job: look-up, expansion and reading. The order of a
// list matters and the last of several entries with one key wins. Anything below commands may import
// it.
package variables

import (
	"os"
	"path"
	"strconv"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// List is an ordered list of variables.
type List []spec.Variable

// Lookup returns the value of key and whether it is there.
func (l List) Lookup(key string) (string, bool) {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].Key == key {
			return l[i].Value, true
		}
	}
	return "", false
}

// Get returns the value of key, or nothing.
func (l List) Get(key string) string {
	value, _ := l.Lookup(key)
	return value
}

// Bool reads key as a boolean: true, t, 1 in any case, or an integer equal to 1. Everything else is
// false.
func (l List) Bool(key string) bool {
	value := strings.ToLower(l.Get(key))
	if b, err := strconv.ParseBool(value); err == nil {
		return b
	}
	number, err := strconv.Atoi(value)
	return err == nil && number == 1
}

// Set returns the list with the entry added, or replaced in place if the key is there.
func (l List) Set(v spec.Variable) List {
	for i := len(l) - 1; i >= 0; i-- {
		if l[i].Key == v.Key {
			out := append(List(nil), l...)
			out[i] = v
			return out
		}
	}
	return append(append(List(nil), l...), v)
}

// Expand returns the list with references in values replaced, in a single pass: a reference to a
// variable receives that variable's unexpanded value. A file variable is expanded to its path in
// tmpDir. Raw values are left as they are.
func (l List) Expand(tmpDir string) List {
	index := l.index()
	out := make(List, len(l))
	for i, v := range l {
		if !v.Raw {
			v.Value = expand(v.Value, func(key string) string { return l.reference(index, key, tmpDir) })
		}
		out[i] = v
	}
	return out
}

// TempDir is the key of the directory in which file variables are kept.
const TempDir = "RUNNER_TEMP_PROJECT_DIR"

// ExpandValue replaces references in a text by the values of the list, as they stand. A file variable
// gives its path in the directory that the list has under TempDir, never its content.
func (l List) ExpandValue(text string) string {
	return expand(text, func(key string) string {
		for i := len(l) - 1; i >= 0; i-- {
			if l[i].Key == key {
				return valueOrPath(l[i], l.Get(TempDir))
			}
		}
		return ""
	})
}

// Masked returns the values that must not be shown.
func (l List) Masked() []string {
	var out []string
	for _, v := range l {
		if v.Masked {
			out = append(out, v.Value)
		}
	}
	return out
}

// PublicOrInternal returns what service containers may see.
func (l List) PublicOrInternal() List {
	var out List
	for _, v := range l {
		if v.Public || v.Internal {
			out = append(out, v)
		}
	}
	return out
}

// Environment returns KEY=value texts, one for each key, with the path in tmpDir as value of a file
// variable.
func (l List) Environment(tmpDir string) []string {
	index := l.index()
	out := make([]string, 0, len(index))
	for i, v := range l {
		if index[v.Key] != i {
			continue
		}
		out = append(out, v.Key+"="+valueOrPath(v, tmpDir))
	}
	return out
}

// Unique returns the list without entries that a later one overrides.
func (l List) Unique() List {
	index := l.index()
	out := make(List, 0, len(index))
	for i, v := range l {
		if index[v.Key] == i {
			out = append(out, v)
		}
	}
	return out
}

// Parse reads KEY=value texts, such as the entries of environment in config.toml, as variables of the
// runner. Texts without "=" are dropped.
func Parse(entries []string) List {
	var out List
	for _, entry := range entries {
		key, value, ok := strings.Cut(entry, "=")
		if !ok || key == "" {
			continue
		}
		out = append(out, spec.Variable{Key: key, Value: value, Internal: true})
	}
	return out
}

func (l List) index() map[string]int {
	index := make(map[string]int, len(l))
	for i, v := range l {
		index[v.Key] = i
	}
	return index
}

func (l List) reference(index map[string]int, key, tmpDir string) string {
	i, ok := index[key]
	if !ok {
		return ""
	}
	return valueOrPath(l[i], tmpDir)
}

func valueOrPath(v spec.Variable, tmpDir string) string {
	if v.File {
		return path.Join(tmpDir, v.Key)
	}
	return v.Value
}

func expand(text string, get func(string) string) string {
	if !strings.Contains(text, "$") {
		return text
	}
	return os.Expand(text, func(key string) string {
		switch key {
		case "$":
			return "$"
		case "*", "#", "@", "!", "?", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9":
			return ""
		}
		return get(key)
	})
}
