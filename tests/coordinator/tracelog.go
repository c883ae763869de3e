package coordinator

import (
	"bytes"
	"regexp"
	"strings"
)

// Line is one line of a job log as a reader sees it: without timestamp, colours and section markers.
type Line struct {
	Time      string // as in the log, empty when the log carries none
	Stream    string // two hex digits, empty when the log carries none
	Stderr    bool
	Continued bool // belongs to the end of the previous line of its stream
	Text      string
}

// LineSplitter turns the bytes of a job log into lines. It keeps an unfinished line until the rest arrives. The zero
// value is ready; it is for one goroutine.
type LineSplitter struct {
	rest []byte
}

var (
	linePrefixForm = regexp.MustCompile(`^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z) ([0-9a-f]{2})([OE])([ +])`)
	markerForm     = regexp.MustCompile(`section_(?:start|end):\d+:[^\r\n]*\r?`)
	escapeForm     = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)
)

// Write takes more of the log and gives the lines that it completes.
func (s *LineSplitter) Write(data []byte) []Line {
	s.rest = append(s.rest, data...)
	var lines []Line
	for {
		end := bytes.IndexByte(s.rest, '\n')
		if end < 0 {
			return lines
		}
		lines = append(lines, readLine(string(s.rest[:end])))
		s.rest = s.rest[end+1:]
	}
}

// Flush gives the unfinished last line, if there is one.
func (s *LineSplitter) Flush() []Line {
	if len(s.rest) == 0 {
		return nil
	}
	line := readLine(string(s.rest))
	s.rest = nil
	return []Line{line}
}

func readLine(text string) Line {
	var line Line
	if match := linePrefixForm.FindStringSubmatch(text); match != nil {
		line = Line{Time: match[1], Stream: match[2], Stderr: match[3] == "E", Continued: match[4] == "+"}
		text = text[len(match[0]):]
	}
	text = markerForm.ReplaceAllString(text, "")
	line.Text = strings.Trim(escapeForm.ReplaceAllString(text, ""), "\r")
	return line
}

// PlainLog renders a job log as a reader sees it: timestamps, colours and section markers are taken out, and lines that
// were split on the way are joined again.
func PlainLog(trace []byte) string {
	var splitter LineSplitter
	lines := append(splitter.Write(trace), splitter.Flush()...)
	var joined []Line
	last := map[string]int{} // by stream and output: where the line is that may be continued
	for _, line := range lines {
		key := line.Stream
		if line.Stderr {
			key += "E"
		}
		if at, known := last[key]; line.Continued && known {
			joined[at].Text += line.Text
			continue
		}
		last[key] = len(joined)
		joined = append(joined, line)
	}
	var text strings.Builder
	for _, line := range joined {
		text.WriteString(line.Text)
		text.WriteByte('\n')
	}
	return text.String()
}
