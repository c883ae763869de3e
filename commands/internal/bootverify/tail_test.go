package bootverify

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOnlyTheLastLinesAreKept(t *testing.T) {
	log := &tail{}
	for i := range 1000 {
		_, err := fmt.Fprintf(log, "line %d\n\n", i)
		require.NoError(t, err)
	}
	lines := strings.Split(log.text(), "\n")
	require.Len(t, lines, keptLines)
	require.Equal(t, "line 975", lines[0])
	require.Equal(t, "line 999", lines[keptLines-1])
}

func TestLinesAreJoinedOfTheirPartsAndPlain(t *testing.T) {
	log := &tail{}
	for _, part := range []string{"\x1b[0Ko", "ne\r", "\ntw", "o\nthr", "ee"} {
		_, err := log.Write([]byte(part))
		require.NoError(t, err)
	}
	require.Equal(t, "one\ntwo\nthree", log.text())
}

func TestALongLineIsCutBetweenTwoWords(t *testing.T) {
	secret := strings.Repeat("s", 40)
	words := strings.Repeat("word ", 98)
	for name, test := range map[string]struct{ line, want string }{
		"in the midst of a secret":         {words + secret, words + "…"},
		"one word":                         {strings.Repeat("x", 3*longest), "…"},
		"what comes after much":            {words + strings.Repeat("y", longest) + " " + secret, words + "…"},
		"the rest of what was overwritten": {strings.Repeat("x", longest-20) + "\r the " + secret, " the …"},
		"what a terminal would obey":       {"a\x1bc\ab\tc", "acb\tc"},
		"a line that fits":                 {strings.Repeat("x", keptLength), strings.Repeat("x", keptLength)},
	} {
		t.Run(name, func(t *testing.T) {
			log := &tail{}
			for part := range strings.SplitAfterSeq(test.line+"\nnext\n", " ") {
				n, err := log.Write([]byte(part))
				require.NoError(t, err)
				require.Equal(t, len(part), n)
			}
			require.Equal(t, test.want+"\nnext", log.text())
		})
	}
}
