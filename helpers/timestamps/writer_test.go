package timestamps

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files")

// ticking is a clock that gains a microsecond whenever it is looked at.
func ticking() func() time.Time {
	now := time.Date(2026, 8, 22, 12, 11, 12, 345678000, time.FixedZone("elsewhere", 2*60*60))
	return func() time.Time {
		now = now.Add(time.Microsecond)
		return now
	}
}

func TestGolden(t *testing.T) {
	for name, pieces := range map[string][]string{
		"lines":            {"one\ntwo\n", "\n", "three\n"},
		"partial-lines":    {"o", "n", "e\ntw", "o"},
		"section":          {"section_start:1787393472:prepare_script\r\x1b[0K", "\x1b[0K\x1b[36;1mPreparing environment\x1b[0;m\x1b[0;m\n", "next\n"},
		"progress":         {"10%\r", "20%\r", "done\r\n", "next\n"},
		"return-in-line":   {"10%\r20%\nrest"},
		"return-at-end":    {"text\r"},
		"torn-character":   {"10%\r\xe2\x82", "\xac\n"},
		"long-line":        {strings.Repeat("0123456789abcdef", 512) + "x\nshort\n"},
		"line-of-8-KiB":    {strings.Repeat("0123456789abcdef", 512), "\n"},
		"long-characters":  {strings.Repeat("€", 3000) + "\n"},
		"nothing":          {"", ""},
		"long-with-return": {strings.Repeat("0123456789abcde\r", 512) + "x"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			w := NewWriter(&out, 0x1f, 'E', ticking())
			for _, piece := range pieces {
				n, err := io.WriteString(w, piece)
				require.NoError(t, err)
				require.Equal(t, len(piece), n)
			}
			require.NoError(t, w.Close())
			file := filepath.Join("testdata", name+".golden")
			if *update {
				require.NoError(t, os.WriteFile(file, out.Bytes(), 0o644))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), out.String())
		})
	}
}

func TestTheTimeIsThatOfTheFirstByte(t *testing.T) {
	var out bytes.Buffer
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w := NewWriter(&out, 1, 'O', func() time.Time { return now })
	for _, piece := range []string{"a", "b\nc", "d\n"} {
		_, err := io.WriteString(w, piece)
		require.NoError(t, err)
		now = now.Add(time.Second)
	}
	require.Equal(t, "2026-01-02T03:04:05.000000Z 01O ab\n2026-01-02T03:04:06.000000Z 01O cd\n", out.String())
	require.Equal(t, 32, PrefixLength)
}

type recorder struct{ writes []string }

func (r *recorder) Write(p []byte) (int, error) {
	r.writes = append(r.writes, string(p))
	return len(p), nil
}

func TestEveryWriteIsWholeLinesSoThatStreamsCanShareAWriter(t *testing.T) {
	var out recorder
	first := NewWriter(&out, 1, 'O', ticking())
	second := NewWriter(&out, 1, 'E', ticking())
	for _, step := range []struct {
		w    io.Writer
		text string
	}{{first, "a\nb"}, {second, "x\ny\n"}, {first, "c\n"}} {
		_, err := io.WriteString(step.w, step.text)
		require.NoError(t, err)
	}
	require.Len(t, out.writes, 3)
	for _, write := range out.writes {
		require.True(t, strings.HasSuffix(write, "\n"))
	}
	require.Contains(t, out.writes[2], "01O bc\n")
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func TestErrorsOfTheUnderlyingWriterAreReported(t *testing.T) {
	fault := errors.New("fault")
	w := NewWriter(broken{fault}, 0, 'O', ticking())
	_, err := io.WriteString(w, "a")
	require.NoError(t, err)
	require.ErrorIs(t, w.Close(), fault)
	_, err = io.WriteString(w, "a\n")
	require.ErrorIs(t, err, fault)
}

var physicalLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z 0fO([ +])((?s).*)$`)

// joined undoes the writer, as the server does.
func joined(t require.TestingT, out string) string {
	var lines []string
	for line := range strings.Lines(out) {
		match := physicalLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		require.NotNil(t, match, "%q", line)
		require.LessOrEqual(t, len(match[2]), maxLine)
		if match[1] == "+" {
			require.NotEmpty(t, lines)
			lines[len(lines)-1] += match[2]
		} else {
			lines = append(lines, match[2])
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\n") + "\n"
}

func stamped(t require.TestingT, pieces ...string) string {
	var out bytes.Buffer
	w := NewWriter(&out, 0x0f, 'O', func() time.Time { return time.Unix(0, 0) })
	for _, piece := range pieces {
		_, err := io.WriteString(w, piece)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return out.String()
}

// ended is text with an end of its last line, if there is one.
func ended(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return text
	}
	return text + "\n"
}

func TestNothingIsLostAndTheCutDoesNotMatterWithoutReturns(t *testing.T) {
	piece := rapid.OneOf(
		rapid.StringMatching(`[a\né]{0,6}`),
		rapid.Map(rapid.IntRange(8000, 8400), func(n int) string { return strings.Repeat("x", n) }),
		rapid.Map(rapid.IntRange(2700, 2800), func(n int) string { return strings.Repeat("€", n) }),
	)
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces")
		whole := strings.Join(pieces, "")
		out := stamped(t, pieces...)
		require.Equal(t, stamped(t, whole), out)
		require.Equal(t, ended(whole), joined(t, out))
		require.True(t, utf8.ValidString(out))
	})
}

func FuzzWriter(f *testing.F) {
	f.Add("a\r\nb\rc", "\r\xe2", "\x82\xac\n")
	f.Add("\n", "", "x")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		got := joined(t, stamped(t, a, b, c))
		want := ended(a + b + c)
		if strings.Contains(want, "\r") && got+"\n" == want {
			// The end of a line that was flushed before cannot be told from the flush's.
			return
		}
		require.Equal(t, want, got, fmt.Sprintf("%q %q %q", a, b, c))
	})
}
