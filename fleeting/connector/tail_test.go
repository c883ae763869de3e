package connector

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestTailNamesWhatItOmits(t *testing.T) {
	for name, tt := range map[string]struct {
		writes []string
		want   string
	}{
		"nothing":           {want: ""},
		"something":         {writes: []string{"sh: ", "not found\n"}, want: "sh: not found"},
		"as much as fits":   {writes: []string{strings.Repeat("x", maxStderr)}, want: strings.Repeat("x", maxStderr)},
		"more than fits":    {writes: []string{strings.Repeat("x", 32<<10+7)}, want: "omitted 8... " + strings.Repeat("x", maxStderr)},
		"control sequences": {writes: []string{"\x1b[31mred\x00\r\n\tnext"}, want: "[31mred  \n\tnext"},
	} {
		t.Run(name, func(t *testing.T) {
			var kept tail
			for _, s := range tt.writes {
				n, err := kept.Write([]byte(s))
				require.NoError(t, err)
				require.Equal(t, len(s), n)
			}
			require.Equal(t, tt.want, kept.String())
		})
	}
}

func TestTailKeepsTheEndHoweverItIsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			kept tail
			all  bytes.Buffer
		)
		for _, size := range rapid.SliceOfN(rapid.IntRange(0, 2*maxStderr), 0, 8).Draw(t, "sizes") {
			p := bytes.Repeat([]byte{byte('a' + all.Len()%26)}, size)
			kept.Write(p)
			all.Write(p)
		}
		want := all.Bytes()[max(0, all.Len()-maxStderr):]
		require.Equal(t, all.Len()-len(want), kept.omitted)
		_, text, found := strings.Cut(kept.String(), "... ")
		if !found {
			text = kept.String()
		}
		require.Equal(t, string(want), text)
	})
}

func FuzzCleanText(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b]0;title\x07\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		clean := cleanText(s)
		require.True(t, utf8.ValidString(clean))
		require.NotContains(t, clean, "\x1b")
		require.NotContains(t, clean, "\u202e")
	})
}
