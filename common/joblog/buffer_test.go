package joblog_test

import (
	"io"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
)

// writes notes each write to any stream.
type writes struct{ all []string }

func (w *writes) Write(data []byte) (int, error) {
	w.all = append(w.all, string(data))
	return len(data), nil
}

func (w *writes) Close() error { return nil }

func newLog(w *writes) *joblog.Log {
	process := logrus.New()
	process.SetOutput(io.Discard)
	return joblog.New(joblog.Options{
		Open:     func(joblog.Stream) io.WriteCloser { return w },
		Sections: true,
		Process:  process,
		Now:      func() time.Time { return time.Unix(7, 0) },
	})
}

func section(t *testing.T, log *joblog.Log) {
	t.Helper()
	require.NoError(t, log.Section("get_sources", "Getting sources", func() error {
		out := log.Output(joblog.ScriptOut)
		_, err := io.WriteString(out, "one\n")
		require.NoError(t, err)
		_, err = io.WriteString(out, "two\n")
		require.NoError(t, err)
		return out.Close()
	}))
}

func TestBufferReleasesInOrderAndKeepsMarkersApart(t *testing.T) {
	t.Parallel()
	straight, held := &writes{}, &writes{}
	section(t, newLog(straight))
	parent := newLog(held)
	buffer := parent.Buffered()
	section(t, buffer.Log)
	require.Empty(t, held.all)
	parent.Print("before")
	buffer.Release()

	require.Equal(t, "\x1b[0Kbefore\x1b[0;m\n", held.all[0])
	require.Equal(t, []string{
		"section_start:7:get_sources\r\x1b[0K",
		"\x1b[0K\x1b[36;1mGetting sources\x1b[0;m\x1b[0;m\n",
		"one\ntwo\n",
		"section_end:7:get_sources\r\x1b[0K",
	}, held.all[1:])
	require.Len(t, straight.all, 5)
}

func TestBufferPassesOnWhatComesAfterItsRelease(t *testing.T) {
	t.Parallel()
	written := &writes{}
	buffer := newLog(written).Buffered()
	buffer.Print("held")
	buffer.Release()
	buffer.Print("passed on")
	require.Len(t, written.all, 2)
	require.Contains(t, written.all[1], "passed on")
}
