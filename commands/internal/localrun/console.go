package localrun

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
)

// Console is where people read. It is safe for concurrent use; lines of jobs are never mixed.
type Console struct {
	// Out takes everything. Colour says that it understands escape sequences.
	Out    io.Writer
	Colour bool

	mu sync.Mutex
}

const (
	bold      = "\x1b[1m"
	red       = "\x1b[31;1m"
	green     = "\x1b[32;1m"
	yellow    = "\x1b[33m"
	grey      = "\x1b[90m"
	plain     = "\x1b[0m"
	maxLine   = 64 << 10
	separator = " | "
)

// prefixColours tell jobs apart.
var prefixColours = []string{"\x1b[36m", "\x1b[35m", "\x1b[34m", "\x1b[33m", "\x1b[32m", "\x1b[96m", "\x1b[95m", "\x1b[94m"}

func (c *Console) paint(colour, text string) string {
	if !c.Colour || colour == "" {
		return text
	}
	return colour + text + plain
}

func (c *Console) write(data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.Out.Write(data)
}

// Say writes a line of the command's own.
func (c *Console) Say(format string, args ...any) {
	c.write([]byte(c.paint(bold, fmt.Sprintf(format, args...)) + "\n"))
}

// Warn writes a warning.
func (c *Console) Warn(format string, args ...any) {
	c.write([]byte(c.paint(yellow, "WARNING: "+fmt.Sprintf(format, args...)) + "\n"))
}

// jobLog writes one job's log, line by line. It takes the job's trace and is safe for concurrent use.
type jobLog struct {
	console *Console
	prefix  string

	mu      sync.Mutex
	pending []byte
}

// job returns the log of a job. Without a width its lines have no prefix.
func (c *Console) job(name string, index, width int) *jobLog {
	l := &jobLog{console: c}
	if width > 0 {
		pad := strings.Repeat(" ", max(0, width-utf8.RuneCountInString(name)))
		l.prefix = c.paint(prefixColours[index%len(prefixColours)], name+pad+separator)
	}
	return l
}

// Write implements io.Writer.
func (l *jobLog) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, data...)
	var out []byte
	for {
		end := bytes.IndexByte(l.pending, '\n')
		if end < 0 && len(l.pending) < maxLine {
			break
		}
		if end < 0 {
			out = l.line(out, l.pending)
			l.pending = nil
			break
		}
		out = l.line(out, l.pending[:end])
		l.pending = l.pending[end+1:]
	}
	if len(out) > 0 {
		l.console.write(out)
	}
	return len(data), nil
}

// end writes what has no line break.
func (l *jobLog) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) > 0 {
		l.console.write(l.line(nil, l.pending))
		l.pending = nil
	}
}

func (l *jobLog) line(out, text []byte) []byte {
	if l.console.Colour {
		text = bytes.TrimRight(text, "\r")
	} else {
		text = joblog.Plain(text)
	}
	out = append(out, l.prefix...)
	out = append(out, text...)
	if l.console.Colour {
		// A colour that a job leaves on must not reach the next line.
		out = append(out, plain...)
	}
	return append(out, '\n')
}

// Summary writes a table of what became of each job.
func (c *Console) Summary(outcomes []Outcome) {
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tSTAGE\tSTATE\tDURATION\tNOTE")
	for _, o := range outcomes {
		took := "-"
		if o.Duration > 0 {
			took = o.Duration.Round(100 * time.Millisecond).String()
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", o.Job.Name, o.Job.Stage, o.State, took, o.Note)
	}
	_ = table.Flush()
	var painted bytes.Buffer
	painted.WriteByte('\n')
	row := 0
	for line := range strings.Lines(out.String()) {
		line = strings.TrimRight(line, " \n")
		if row == 0 {
			line = c.paint(bold, line)
		} else {
			line = c.paint(outcomes[row-1].State.colour(), line)
		}
		row++
		painted.WriteString(line + "\n")
	}
	c.write(painted.Bytes())
}
