//go:build system

package system

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

var (
	prefixForm  = regexp.MustCompile(`^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z) [0-9a-f]{2}[OE][ +]`)
	sectionForm = regexp.MustCompile(`^section_(start|end):(\d+):([a-z_]+)\r\x1b\[0K$`)
)

const prefixLength = 32

// section is one part of a job log.
type section struct {
	name       string
	start, end int64 // seconds since 1970
	// title is the line that follows the beginning.
	title string
}

// sectionNames are the names of a job log's sections, in their order.
func sectionNames(sections []section) []string {
	names := make([]string, len(sections))
	for i, one := range sections {
		names[i] = one.name
	}
	return names
}

// readTrace takes a job log apart and says what is wrong with its form: each line has a prefix with a
// time of the job's life, markers stand on lines of their own, sections begin and end in pairs.
func readTrace(record coordinator.Record) (sections []section, problems []string) {
	problem := func(number int, format string, args ...any) {
		problems = append(problems, fmt.Sprintf("line %d: %s", number+1, fmt.Sprintf(format, args...)))
	}
	// The engine's clock is this machine's; a second is for rounding.
	first, last := record.Times.HandedOut.Add(-time.Second), record.Times.Finished.Add(time.Second)
	if !bytes.HasSuffix(record.Trace, []byte("\n")) {
		problems = append(problems, "the last line is not finished")
	}
	var open []*section
	wantTitle := (*section)(nil)
	for number, line := range strings.Split(strings.TrimSuffix(string(record.Trace), "\n"), "\n") {
		match := prefixForm.FindStringSubmatch(line)
		if match == nil {
			problem(number, "no prefix: %q", line)
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, match[1])
		if err != nil || at.Before(first) || at.After(last) {
			problem(number, "%s is no time between %s and %s", match[1], first.UTC(), last.UTC())
		}
		text := line[prefixLength:]
		if wantTitle != nil {
			wantTitle.title, wantTitle = plainText(text), nil
			if line[prefixLength-1] != '+' {
				problem(number, "the line after a marker does not continue it: %q", line)
			}
		}
		marker := sectionForm.FindStringSubmatch(text)
		if marker == nil {
			if strings.Contains(text, "section_start:") || strings.Contains(text, "section_end:") {
				problem(number, "a marker among other text: %q", line)
			}
			continue
		}
		seconds, err := strconv.ParseInt(marker[2], 10, 64)
		if err != nil || seconds < first.Unix() || seconds > last.Unix()+1 {
			problem(number, "%s is no time of the job's life", marker[2])
		}
		switch {
		case marker[1] == "start":
			one := &section{name: marker[3], start: seconds}
			open, wantTitle = append(open, one), one
		case len(open) == 0 || open[len(open)-1].name != marker[3]:
			problem(number, "the end of section %s, which is not the one that began last", marker[3])
		default:
			ended := open[len(open)-1]
			open = open[:len(open)-1]
			ended.end = seconds
			if ended.end < ended.start {
				problem(number, "section %s ends before it begins", ended.name)
			}
			sections = append(sections, *ended)
		}
	}
	for _, one := range open {
		problems = append(problems, "section "+one.name+" does not end")
	}
	return sections, problems
}

var colours = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)

func plainText(text string) string { return colours.ReplaceAllString(text, "") }

// orderProblem says which of some texts is missing from a job log, or not in its place.
func orderProblem(log string, texts []string) string {
	rest := log
	for _, text := range texts {
		_, after, found := strings.Cut(rest, text)
		if !found {
			return fmt.Sprintf("%q is missing or not in its place", text)
		}
		rest = after
	}
	return ""
}
