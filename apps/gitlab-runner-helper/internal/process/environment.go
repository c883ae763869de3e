package process

import (
	"fmt"
	"strings"
)

// Environment is what programs are given. The zero value is empty. It is not safe for concurrent use.
type Environment struct {
	entries []string
	values  map[string]string
}

// NewEnvironment returns an environment of entries of the form KEY=value.
func NewEnvironment(entries []string) *Environment {
	e := &Environment{}
	e.Add(entries)
	return e
}

// Add sets variables given as entries of the form KEY=value; others are left out.
func (e *Environment) Add(entries []string) {
	for _, entry := range entries {
		if key, value, ok := strings.Cut(entry, "="); ok && key != "" {
			e.put(key, value)
		}
	}
}

// Set sets a variable. It refuses what the system could not hand on.
func (e *Environment) Set(key, value string) error {
	if key == "" || strings.ContainsAny(key, "=\x00") {
		return fmt.Errorf("variable %q cannot be exported: a name is not empty and has neither = nor a NUL byte", key)
	}
	if strings.ContainsRune(value, 0) {
		return fmt.Errorf("variable %s cannot be exported: its value has a NUL byte", key)
	}
	e.put(key, value)
	return nil
}

func (e *Environment) put(key, value string) {
	if e.values == nil {
		e.values = map[string]string{}
	}
	// Of several entries with the same key programs are given the last.
	e.entries = append(e.entries, key+"="+value)
	e.values[key] = value
}

// Get returns the value of a variable, or nothing.
func (e *Environment) Get(key string) string {
	return e.values[key]
}

// Entries returns all variables, followed by the given entries.
func (e *Environment) Entries(more ...string) []string {
	return append(e.entries[:len(e.entries):len(e.entries)], more...)
}
