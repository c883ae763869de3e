//go:build system

package scenarios

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// replacements are what differs from one run to the next. Their order matters.
var replacements = []struct {
	form *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`section_(start|end):\d+:`), "section_$1:TIME:"},
	{regexp.MustCompile(`Running with gitlab-runner \S+ \(\S+\)`), "Running with gitlab-runner VERSION (REVISION)"},
	{regexp.MustCompile(`(on rig-docker) \S+, system ID: \S+`), "$1 TOKEN, system ID: ID"},
	{regexp.MustCompile(`runner-[A-Za-z0-9]+-project-(\d+)-concurrent-(\d+)`), "runner-TOKEN-project-$1-concurrent-$2"},
	{regexp.MustCompile(`\d+\.\d+\.\d+\.\d+:\d+`), "HOST:PORT"},
	{regexp.MustCompile(`(via) \S+\.\.\.`), "$1 MANAGER..."},
	{regexp.MustCompile(`sha256:[0-9a-f]{12,64}`), "sha256:DIGEST"},
	{regexp.MustCompile(`Gitaly correlation ID: \S+`), "Gitaly correlation ID: ID"},
	{regexp.MustCompile(`(Retrying in) [0-9.]+m?s`), "$1 DURATION"},
	{regexp.MustCompile(`(correlation_id|id|token)=\w+`), "$1=ID"},
	{regexp.MustCompile(`(concurrent-\d+)-[0-9a-f]{16}-`), "$1-SUFFIX-"},
	{regexp.MustCompile(`(eval: line) \d+`), "$1 NUMBER"},
	{regexp.MustCompile(`(\d+h)?(\d+m)?\d+s that are left`), "TIME that are left"},
}

var prefixForm = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z ([0-9a-f]{2}[OE])([ +])`)

// logLine is a line of a log with what it continues.
type logLine struct{ stream, text string }

// normal is a log as it is kept: without times, with the stream before each line, with lines that were
// split on the way joined, and escape sequences in letters. Where a script writes to both of its streams
// at once the order is that of standard output first.
func normal(trace []byte) string {
	var lines []logLine
	last := map[string]int{}
	for text := range strings.Lines(string(trace)) {
		text = strings.TrimSuffix(text, "\n")
		match := prefixForm.FindStringSubmatch(text)
		if match == nil {
			lines = append(lines, logLine{"---", text})
			continue
		}
		stream, text := match[1], text[len(match[0]):]
		if at, known := last[stream]; known && match[2] == "+" {
			lines[at].text += text
			continue
		}
		last[stream] = len(lines)
		lines = append(lines, logLine{stream, text})
	}
	for from := 0; from < len(lines); from++ {
		to := from
		for to < len(lines) && (lines[to].stream == "01O" || lines[to].stream == "01E") {
			to++
		}
		slices.SortStableFunc(lines[from:to], func(a, b logLine) int { return strings.Compare(b.stream, a.stream) })
		from = max(from, to-1)
	}
	var out strings.Builder
	for _, line := range lines {
		text := strings.NewReplacer("\x1b", `\e`, "\r", `\r`, "\t", `\t`).Replace(line.text)
		for _, r := range replacements {
			text = r.form.ReplaceAllString(text, r.with)
		}
		fmt.Fprintf(&out, "%s %s\n", line.stream, text)
	}
	return out.String()
}

func TestLogsAreNormalised(t *testing.T) {
	trace := "2026-01-02T03:04:05.000001Z 00O section_start:1787393472:get_sources\r\x1b[0K\n" +
		"2026-01-02T03:04:05.000002Z 00O+title\n" +
		"2026-01-02T03:04:05.000003Z 01E error\n" +
		"2026-01-02T03:04:05.000004Z 01O output of sha256:" + strings.Repeat("ab", 32) + "\n"
	require.Equal(t, `00O section_start:TIME:get_sources\r\e[0Ktitle`+"\n01O output of sha256:DIGEST\n01E error\n", normal([]byte(trace)))
}
