package pluginhost

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

const (
	// maxLine is the length in bytes at which a line of output is cut.
	maxLine = 64 << 10
	// maxLastWords bounds what is kept of the output for the report of a crash.
	maxLastWords = 8 << 10
)

// output turns what a plugin writes into log lines: the lines of a hclog logger as they were meant,
// every other line as a message of its own. It also keeps the last plain lines, and from the start of a
// crash of the Go runtime on, the first ones of that. It is safe for concurrent use.
type output struct {
	log hclog.Logger

	mu       sync.Mutex
	partial  []byte
	skipping bool // the rest of a line that was too long
	crashing bool
	tail     []byte
}

func newOutput(log hclog.Logger) *output { return &output{log: log} }

// Write takes a piece of output; it never fails.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(b)
	for len(b) > 0 {
		line, rest, complete := bytes.Cut(b, []byte{'\n'})
		b = rest
		if !o.skipping {
			room := maxLine - len(o.partial)
			o.partial = append(o.partial, line[:min(len(line), room)]...)
			if len(line) >= room || complete {
				o.emit(o.partial)
				o.partial = o.partial[:0]
				o.skipping = !complete
			}
		} else if complete {
			o.skipping = false
		}
	}
	return n, nil
}

// lastWords returns the kept lines.
func (o *output) lastWords() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	words := string(o.tail)
	if !o.crashing && len(o.partial) > 0 {
		words += string(o.partial)
	}
	return strings.TrimSpace(words)
}

func (o *output) emit(line []byte) {
	line = bytes.TrimRight(line, "\r")
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	if o.emitStructured(line) {
		return
	}
	text := strings.ToValidUTF8(string(line), "\uFFFD")
	if strings.HasPrefix(text, "panic: ") || strings.HasPrefix(text, "fatal error: ") {
		o.crashing = true
		o.tail = o.tail[:0]
	}
	o.keep(text)
	if o.crashing {
		// The host reports the crash as one event, with the beginning of this.
		o.log.Debug(text)
		return
	}
	o.log.Log(levelOfPrefix(text), text)
}

// keep adds a line to the kept ones: the beginning of a crash, otherwise the end of the output.
func (o *output) keep(line string) {
	if o.crashing {
		room := maxLastWords - len(o.tail)
		if room > 0 {
			o.tail = append(o.tail, line[:min(len(line), room)]...)
			o.tail = append(o.tail, '\n')
		}
		return
	}
	o.tail = append(append(o.tail, line...), '\n')
	if over := len(o.tail) - maxLastWords; over > 0 {
		o.tail = slices.Delete(o.tail, 0, over)
	}
}

// emitStructured logs a line of a hclog logger in JSON form and tells whether it was one.
func (o *output) emitStructured(line []byte) bool {
	if line[0] != '{' {
		return false
	}
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	if decoder.Decode(&fields) != nil {
		return false
	}
	message, isMessage := fields["@message"].(string)
	levelName, isLevel := fields["@level"].(string)
	if !isMessage || !isLevel {
		return false
	}
	level := hclog.LevelFromString(levelName)
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	// The host's logger adds these itself.
	for _, key := range []string{"@message", "@level", "@timestamp", "@module", "plugin"} {
		delete(fields, key)
	}
	args := make([]any, 0, 2*len(fields))
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		args = append(args, key, fields[key])
	}
	o.log.Log(level, message, args...)
	return true
}

// levelOfPrefix reads the prefix that the standard library's users put before a line.
func levelOfPrefix(line string) hclog.Level {
	name, _, found := strings.Cut(strings.TrimPrefix(line, "["), "]")
	if found && strings.HasPrefix(line, "[") {
		if level := hclog.LevelFromString(name); level != hclog.NoLevel {
			return level
		}
	}
	return hclog.Info
}
