// Package volumes reads the entries of volumes in [runners.docker] and names what they stand for. It
// is pure: nothing here speaks to an engine.
//
// The planner of the docker executor imports it.
package volumes

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Spec is one entry.
type Spec struct {
	// Source is a path on the engine's machine or the name of a volume; empty for an entry that names
	// a destination only.
	Source string
	// Destination is a path in the container.
	Destination string
	// Options are what follows the destination, joined by commas, such as "ro,z".
	Options string
}

// Bind is the entry in the form that engines take.
func (s Spec) Bind() string {
	text := s.Source + ":" + s.Destination
	if s.Options != "" {
		text += ":" + s.Options
	}
	return text
}

// windows is the value of an engine's OS for which paths have drives.
const windows = "windows"

// Parse reads an entry for containers of an operating system.
func Parse(os, text string) (Spec, error) {
	parse := parseUnix
	if os == windows {
		parse = parseWindows
	}
	spec, ok := parse(text)
	if !ok {
		return Spec{}, fmt.Errorf("invalid volume specification: %q", text)
	}
	return spec, nil
}

var (
	unixOptions = regexp.MustCompile(`^(?i:ro|rw|o|z|r?(shared|slave|private))$`)
	unixPart    = regexp.MustCompile(`^[^:\x00-\x1f]+$`)
)

// parseUnix reads [source:]destination[:options], where options are joined by colons or commas.
func parseUnix(text string) (Spec, bool) {
	parts := strings.Split(text, ":")
	for _, part := range parts {
		if !unixPart.MatchString(part) {
			return Spec{}, false
		}
	}
	var options []string
	for len(parts) > 1 {
		last := strings.Split(parts[len(parts)-1], ",")
		// A source may have only a destination after it: in "data:ro" the volume is mounted at "ro".
		if !allOptions(last) || len(parts) == 2 && !rooted(parts[0]) {
			break
		}
		options = append(last, options...)
		parts = parts[:len(parts)-1]
	}
	switch len(parts) {
	case 1:
		return Spec{Destination: parts[0], Options: strings.Join(options, ",")}, true
	case 2:
		return Spec{Source: parts[0], Destination: parts[1], Options: strings.Join(options, ",")}, true
	default:
		return Spec{}, false
	}
}

// rooted says whether a part is an absolute path, or becomes one when its variable is expanded.
func rooted(part string) bool {
	return strings.HasPrefix(part, "/") || strings.HasPrefix(part, "$")
}

func allOptions(words []string) bool {
	for _, word := range words {
		if !unixOptions.MatchString(word) {
			return false
		}
	}
	return true
}

var windowsSpec = func() *regexp.Regexp {
	const (
		text  = `[^:*?"<>|\x00-\x1f]`
		dir   = `[a-zA-Z]:(?:[\\/]` + text + `*)?`
		pipe  = `[\\/]{2}\.[\\/]pipe[\\/]` + text + `+`
		name  = `[^:*?"<>|\x00-\x1f\\/]{2,}`
		modes = `(?i:ro|rw)`
	)
	return regexp.MustCompile(`^(?:(` + dir + `|` + pipe + `|` + name + `):)?(` + dir + `|` + pipe + `)(?::(` + modes + `))?$`)
}()

func parseWindows(text string) (Spec, bool) {
	match := windowsSpec.FindStringSubmatch(text)
	if match == nil {
		return Spec{}, false
	}
	return Spec{Source: match[1], Destination: match[2], Options: match[3]}, true
}

// Absolute joins a relative path to a base directory.
func Absolute(os, base, dir string) string {
	if IsAbsolute(os, dir) {
		return dir
	}
	return Join(os, base, dir)
}

// Join joins path elements as the operating system of the containers does.
func Join(os string, elements ...string) string {
	if os == windows {
		return strings.ReplaceAll(path.Join(slashed(elements)...), "/", `\`)
	}
	return path.Join(elements...)
}

// IsAbsolute says whether a path begins at a root.
func IsAbsolute(os, dir string) bool {
	if os != windows {
		return strings.HasPrefix(dir, "/")
	}
	slash := strings.ReplaceAll(dir, `\`, "/")
	return len(dir) >= 2 && dir[1] == ':' && (len(dir) == 2 || slash[2] == '/') || strings.HasPrefix(slash, "//./pipe/")
}

// IsRoot says whether a path is the root of everything.
func IsRoot(os, dir string) bool {
	if os != windows {
		return path.Clean(dir) == "/"
	}
	slash := path.Clean(strings.ReplaceAll(dir, `\`, "/"))
	return strings.EqualFold(slash, "c:") || strings.EqualFold(slash, "c:/")
}

// Clean is the form of a path by which two entries are compared.
func Clean(os, dir string) string {
	if os == windows {
		return strings.ToLower(path.Clean(strings.ReplaceAll(dir, `\`, "/")))
	}
	return path.Clean(dir)
}

// Within says whether a path is a directory or lies below it.
func Within(os, dir, parent string) bool {
	dir, parent = Clean(os, dir), strings.TrimSuffix(Clean(os, parent), "/")
	return dir == parent || strings.HasPrefix(dir, parent+"/")
}

// Hash stands for a destination in the names of volumes. It is no secret.
func Hash(destination string) string {
	sum := md5.Sum([]byte(destination))
	return hex.EncodeToString(sum[:])
}

func slashed(elements []string) []string {
	out := make([]string, len(elements))
	for i, e := range elements {
		out[i] = strings.ReplaceAll(e, `\`, "/")
	}
	return out
}
