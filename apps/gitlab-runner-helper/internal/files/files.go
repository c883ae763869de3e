// Package files finds what the user's patterns for artifacts and caches name. Nothing outside the
// project directory is ever found: links are found as such, and only a pattern that names a link to a
// directory of the project looks into that.
package files

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
	"mvdan.cc/sh/v3/shell"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
)

// Request is what to look for.
type Request struct {
	// Paths and Exclude are globs with ** and {a,b}. They are expanded like words of a shell first.
	Paths   []string
	Exclude []string
	// Untracked asks for files that git does not track.
	Untracked bool
	// Verbose tells the user every file that is found.
	Verbose bool
}

// Git lists files.
type Git interface {
	// Output runs git in a directory and returns its output, of up to limit bytes.
	Output(ctx context.Context, dir string, limit int, args ...string) ([]byte, error)
}

// Collector finds files in a project directory.
type Collector struct {
	Console *console.Console
	// Dir is the project directory, and Root is it, too.
	Dir  string
	Root *os.Root
	Git  Git
	// Lookup returns the value of an environment variable, or nothing.
	Lookup func(key string) string
}

// maxUntracked is how long a list of untracked files may be.
const maxUntracked = 256 << 20

// Expand replaces $VAR, ${VAR} and ${VAR:-default} in a word as a shell does. A word that a shell would
// not accept is warned about and returned as it is.
func (c *Collector) Expand(word string) string {
	expanded, err := expand(word, c.Lookup)
	if err != nil {
		c.Console.Warning("WARNING: %q is not a valid shell word and is used as it is: %v", word, err)
		return word
	}
	return expanded
}

func expand(word string, lookup func(string) string) (expanded string, err error) {
	if !strings.ContainsAny(word, "$`\\") {
		return word, nil
	}
	// A fault of the parser in a job's words must not end the stage.
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("it cannot be read: %v", problem)
		}
	}()
	return shell.Expand(word, lookup)
}

// collection is what was found so far.
type collection struct {
	*Collector
	ctx      context.Context
	exclude  []string
	excluded map[string]int
	// found says of each name that was looked at whether it is taken.
	found map[string]bool
}

// Collect returns the names of the files, directories and links that the request names, relative to
// the project directory with slashes, sorted. It tells the user what each pattern found.
func (c *Collector) Collect(ctx context.Context, r Request) ([]string, error) {
	all := &collection{Collector: c, ctx: ctx, excluded: map[string]int{}, found: map[string]bool{}}
	for _, rule := range r.Exclude {
		rule = c.Expand(rule)
		clean, ok := c.relative(rule)
		switch {
		case !ok:
			c.Console.Warning("WARNING: %s: exclusion path is not a subpath of project directory: %s", rule, c.Dir)
		case !doublestar.ValidatePattern(clean):
			c.Console.Warning("WARNING: %s: exclusion is not a valid pattern", rule)
		default:
			all.exclude = append(all.exclude, clean)
		}
	}
	for _, pattern := range r.Paths {
		if err := all.pattern(c.Expand(pattern)); err != nil {
			return nil, err
		}
	}
	if r.Untracked {
		if err := all.untracked(); err != nil {
			return nil, err
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(all.excluded)) {
		c.Console.Print("%s: excluded %d files", rule, all.excluded[rule])
	}
	var names []string
	for name, taken := range all.found {
		if taken {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if r.Verbose {
		for _, name := range names {
			c.Console.Print("%s", name)
		}
	}
	if slices.ContainsFunc(names, func(name string) bool { return name == ".git" || strings.HasPrefix(name, ".git/") }) {
		c.Console.Warning("WARNING: Part of .git directory is on the list of files to archive")
		c.Console.Warning("WARNING: This may introduce unexpected problems")
	}
	return names, nil
}

// relative returns a pattern as one relative to the project directory; ok is false if it leads out.
func (c *Collector) relative(pattern string) (clean string, ok bool) {
	clean = filepath.ToSlash(pattern)
	if filepath.IsAbs(pattern) {
		dir := strings.TrimSuffix(filepath.ToSlash(c.Dir), "/")
		rest, inside := strings.CutPrefix(path.Clean(clean), dir)
		if !inside || rest != "" && rest[0] != '/' {
			return "", false
		}
		clean = "." + rest
	}
	clean = path.Clean(clean)
	return clean, filepath.IsLocal(filepath.FromSlash(clean))
}

func (a *collection) pattern(pattern string) error {
	if pattern == "" {
		a.Console.Warning("WARNING: empty path: it matches nothing")
		return nil
	}
	clean, ok := a.relative(pattern)
	if !ok {
		a.Console.Warning("WARNING: %s: artifact path is not a subpath of project directory: %s", pattern, a.Dir)
		return nil
	}
	if !doublestar.ValidatePattern(clean) {
		a.Console.Warning("WARNING: %s: it is not a valid pattern", pattern)
		return nil
	}
	m := &match{collection: a, seen: map[string]bool{}}
	if err := m.glob(clean); err != nil {
		return err
	}
	if m.count == 0 {
		a.Console.Warning("WARNING: %s: no matching files. Ensure that the artifact path is relative to the working directory (%s)", pattern, a.Dir)
		return nil
	}
	a.Console.Print("%s: found %d matching artifact files and directories", pattern, m.count)
	return nil
}

// match is the work on one pattern.
type match struct {
	*collection
	count int
	// seen has what the pattern matched, and for directories that all in them was.
	seen map[string]bool
}

func (m *match) glob(pattern string) error {
	if !strings.ContainsAny(pattern, `*?[{\`) {
		info, err := m.Root.Lstat(filepath.FromSlash(pattern))
		if err != nil {
			return nil //nolint:nilerr // what cannot be seen is not there
		}
		return m.entry(pattern, info.IsDir())
	}
	return doublestar.GlobWalk(m.Root.FS(), pattern, func(name string, entry fs.DirEntry) error {
		return m.entry(name, entry.Type().IsDir())
	}, doublestar.WithNoFollow())
}

// entry adds what a pattern matched; of a directory also all that is in it.
func (m *match) entry(name string, isDir bool) error {
	if m.ctx.Err() != nil {
		return context.Cause(m.ctx)
	}
	if !isDir {
		m.add(name)
		return nil
	}
	if m.seen[name] {
		return nil
	}
	return fs.WalkDir(m.Root.FS(), name, func(name string, entry fs.DirEntry, err error) error {
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		if err != nil {
			m.Console.Warning("WARNING: %s: it cannot be read: %v", name, err)
			return nil
		}
		m.add(name)
		return nil
	})
}

func (m *match) add(name string) {
	if name == "." || m.seen[name] {
		return
	}
	m.seen[name] = true
	if m.collection.add(name) {
		m.count++
	}
}

// add takes a name unless it is excluded.
func (a *collection) add(name string) bool {
	taken, known := a.found[name]
	if known {
		return taken
	}
	for _, rule := range a.exclude {
		if doublestar.MatchUnvalidated(rule, name) {
			a.excluded[rule]++
			a.found[name] = false
			return false
		}
	}
	a.found[name] = true
	return true
}

func (a *collection) untracked() error {
	list, err := a.Git.Output(a.ctx, a.Dir, maxUntracked, "ls-files", "--others", "-z")
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	if err != nil {
		a.Console.Warning("WARNING: untracked: %v", err)
		return nil
	}
	count := 0
	for name := range strings.SplitSeq(string(list), "\x00") {
		// A repository in the work tree is listed with a slash at its end.
		if name = strings.TrimSuffix(name, "/"); name == "" {
			continue
		}
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			continue
		}
		if a.add(name) {
			count++
		}
	}
	if count == 0 {
		a.Console.Warning("WARNING: untracked: no files")
		return nil
	}
	a.Console.Print("untracked: found %d files", count)
	return nil
}
