package localrun

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/pipeline"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
)

func TestPlainLogHasPrefixesAndNoEscapes(t *testing.T) {
	var out bytes.Buffer
	c := &Console{Out: &out}
	first, second := c.job("one", 0, 6), c.job("second", 1, 6)
	for _, text := range []string{"\x1b[32;1m$ ec", "ho\x1b[0;m\r\nnext\n", "10%\r50%\r100%\n", "\x1b]0;title\ano break"} {
		_, err := first.Write([]byte(text))
		require.NoError(t, err)
		_, err = second.Write([]byte("x"))
		require.NoError(t, err)
	}
	first.end()
	second.end()
	require.Equal(t, "one    | $ echo\none    | next\none    | 100%\none    | no break\nsecond | xxxx\n", out.String())
}

func TestColouredLogEndsEachLineWithoutColour(t *testing.T) {
	var out bytes.Buffer
	c := &Console{Out: &out, Colour: true}
	log := c.job("a", 0, 1)
	_, err := log.Write([]byte("\x1b[31mred\nstill\n"))
	require.NoError(t, err)
	require.Equal(t, "\x1b[36ma | \x1b[0m\x1b[31mred\x1b[0m\n\x1b[36ma | \x1b[0mstill\x1b[0m\n", out.String())
}

func TestLineWithoutEndIsNotKeptForEver(t *testing.T) {
	var out bytes.Buffer
	log := (&Console{Out: &out}).job("a", 0, 0)
	for range 10 {
		_, err := log.Write(bytes.Repeat([]byte("x"), maxLine/4))
		require.NoError(t, err)
	}
	require.Less(t, len(log.pending), maxLine)
	require.Equal(t, 2, strings.Count(out.String(), "\n"))
}

func TestSummaryIsATable(t *testing.T) {
	outcomes := []Outcome{
		{Job: &pipeline.Job{Name: "compile: [linux, amd64]", Stage: "build"}, State: Success, Duration: 1234 * time.Millisecond},
		{Job: &pipeline.Job{Name: "lint", Stage: "test"}, State: Allowed, Duration: 90 * time.Second, Note: "exit code 3"},
		{Job: &pipeline.Job{Name: "ship", Stage: "deploy"}, State: Skipped, Note: "something before it did not succeed"},
	}
	var out bytes.Buffer
	(&Console{Out: &out}).Summary(outcomes)
	require.Equal(t, `
JOB                      STAGE   STATE             DURATION  NOTE
compile: [linux, amd64]  build   success           1.2s
lint                     test    failed (allowed)  1m30s     exit code 3
ship                     deploy  skipped           -         something before it did not succeed
`, out.String())
	var coloured bytes.Buffer
	(&Console{Out: &coloured, Colour: true}).Summary(outcomes)
	var plain strings.Builder
	for line := range strings.Lines(coloured.String()) {
		plain.Write(append(joblog.Plain([]byte(line)), '\n'))
	}
	require.Equal(t, out.String(), plain.String())
	require.Contains(t, coloured.String(), green+"compile")
}
