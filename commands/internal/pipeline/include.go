package pipeline

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	// maxFiles and maxNesting bound what a file includes, directly and by others.
	maxFiles   = 150
	maxNesting = 20
)

// loadAll reads the file and everything it includes, into one mapping.
func loadAll(o Options) (*mapping, error) {
	l := &loader{read: o.Read}
	return l.load(path.Clean(o.File), nil)
}

type loader struct {
	read  func(string) ([]byte, error)
	files int
}

// load reads one file. above are the files that led to it.
func (l *loader) load(file string, above []string) (*mapping, error) {
	switch {
	case slices.Contains(above, file):
		return nil, fmt.Errorf("%s includes itself: %s", file, strings.Join(append(above, file), " → "))
	case len(above) > maxNesting:
		return nil, fmt.Errorf("%s: included more than %d deep", file, maxNesting)
	}
	if l.files++; l.files > maxFiles {
		return nil, fmt.Errorf("more than %d files are included", maxFiles)
	}
	data, err := l.read(file)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	own, err := parse(data)
	if err != nil {
		return nil, in(file, err)
	}
	base := newMapping()
	for _, entry := range items(own.get("include")) {
		target, err := includedFile(entry)
		if err != nil {
			return nil, in(file+": include", err)
		}
		included, err := l.load(target, append(slices.Clone(above), file))
		if err != nil {
			return nil, err
		}
		base = merged(base, included)
	}
	return merged(base, own.without("include")), nil
}

// includedFile is the path of a local include, relative to the root of the project.
func includedFile(entry any) (string, error) {
	var local string
	switch e := entry.(type) {
	case scalar:
		if strings.Contains(e.text, "://") {
			return "", fmt.Errorf("%q: include:remote is not supported, only files of the project", e.text)
		}
		local = e.text
	case *mapping:
		for _, key := range e.keys {
			if key != "local" {
				return "", fmt.Errorf("include:%s is not supported, only include:local", key)
			}
		}
		var err error
		if local, err = text(e.get("local")); err != nil {
			return "", in("local", err)
		}
	default:
		return "", errors.New("has to be a path, or a mapping with local")
	}
	if strings.ContainsAny(local, "*?[") {
		return "", fmt.Errorf("%q: patterns are not supported, name each file", local)
	}
	if slices.Contains(strings.Split(strings.ReplaceAll(local, "\\", "/"), "/"), "..") {
		return "", fmt.Errorf("%q leaves the project", local)
	}
	clean := strings.TrimPrefix(path.Clean("/"+local), "/")
	if clean == "" {
		return "", errors.New("the path is empty")
	}
	return clean, nil
}
