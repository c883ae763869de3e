package pluginhost

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOutputBecomesStructuredLines(t *testing.T) {
	tests := map[string]struct {
		written string
		want    map[string]any
	}{
		"line of a structured logger": {
			`{"@level":"warn","@message":"quota is low","@timestamp":"2026-01-02T03:04:05Z","@module":"x","left":3,"big":12345678901234}` + "\n",
			map[string]any{"@level": "warn", "@message": "quota is low", "left": 3.0, "big": 12345678901234.0},
		},
		"line with a level in brackets": {
			"[ERROR] no route\n",
			map[string]any{"@level": "error", "@message": "[ERROR] no route"},
		},
		"plain line":                    {"hello\r\n", map[string]any{"@level": "info", "@message": "hello"}},
		"JSON of somebody else":         {`{"a":1}` + "\n", map[string]any{"@level": "info", "@message": `{"a":1}`}},
		"broken JSON":                   {"{\n", map[string]any{"@level": "info", "@message": "{"}},
		"bytes that are not characters": {"\xffx\n", map[string]any{"@level": "info", "@message": "\uFFFDx"}},
		"line that is cut":              {strings.Repeat("a", maxLine+10) + "\n", map[string]any{"@level": "info", "@message": strings.Repeat("a", maxLine)}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			log := newRecordedLog()
			o := newOutput(log)
			for _, b := range []byte(tt.written) {
				n, err := o.Write([]byte{b})
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			message, ok := tt.want["@message"].(string)
			require.True(t, ok)
			lines := log.lines(message)
			require.Len(t, lines, 1)
			require.Equal(t, tt.want, lines[0])
			require.Equal(t, 1, strings.Count(log.text.String(), "\n"), "one line is written for one line")
		})
	}
}

func TestOutputKeepsTheBeginningOfACrash(t *testing.T) {
	o := newOutput(newRecordedLog())
	write := func(s string) {
		_, err := o.Write([]byte(s))
		require.NoError(t, err)
	}
	write("before\n")
	require.Equal(t, "before", o.lastWords())
	write("panic: out of luck\n\ngoroutine 1 [running]:\n" + strings.Repeat("frame\n", maxLastWords))
	words := o.lastWords()
	require.True(t, strings.HasPrefix(words, "panic: out of luck\ngoroutine 1 [running]:\nframe\n"), words)
	require.LessOrEqual(t, len(words), maxLastWords+1)
}

func TestOutputKeepsTheEndOfOrdinaryOutput(t *testing.T) {
	o := newOutput(newRecordedLog())
	_, err := o.Write([]byte(strings.Repeat("line\n", maxLastWords) + "the end"))
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(o.lastWords(), "line\nthe end"))
	require.LessOrEqual(t, len(o.lastWords()), maxLastWords+len("the end"))
}

func FuzzOutput(f *testing.F) {
	f.Add([]byte(`{"@level":"info","@message":"m","k":{"x":[1]}}`+"\n[WARN] x\npanic: y\n"), 3)
	f.Fuzz(func(t *testing.T, written []byte, chunk int) {
		if chunk < 1 || chunk > 1<<16 {
			chunk = 7
		}
		log := newRecordedLog()
		o := newOutput(log)
		for rest := written; len(rest) > 0; {
			n := min(chunk, len(rest))
			taken, err := o.Write(rest[:n])
			require.NoError(t, err)
			require.Equal(t, n, taken)
			rest = rest[n:]
		}
		require.LessOrEqual(t, len(o.lastWords()), maxLastWords+maxLine+1)
	})
}
