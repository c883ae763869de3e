package tracebuffer

import (
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func newBuffer(t testing.TB, limit int64) *Buffer {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	b, err := New(limit)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func content(t require.TestingT, b *Buffer) string {
	data, err := b.ReadAt(0, int(b.Size()))
	require.NoError(t, err)
	return string(data)
}

func TestBufferKeepsAndDescribesWhatIsWritten(t *testing.T) {
	b := newBuffer(t, 0)
	require.Equal(t, "crc32:00000000", b.Checksum())
	for _, text := range []string{"hello ", "", "wörld\n"} {
		n, err := b.Write([]byte(text))
		require.NoError(t, err)
		require.Equal(t, len(text), n)
	}
	require.Equal(t, "hello wörld\n", content(t, b))
	size, checksum := b.Summary()
	require.EqualValues(t, 13, size)
	require.Equal(t, fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE([]byte("hello wörld\n"))), checksum)

	data, err := b.ReadAt(6, 3)
	require.NoError(t, err)
	require.Equal(t, "wö", string(data))
	data, err = b.ReadAt(13, 100)
	require.NoError(t, err)
	require.Empty(t, data)
	_, err = b.ReadAt(14, 1)
	require.ErrorContains(t, err, "it has 13 bytes")
	_, err = b.ReadAt(-1, 1)
	require.Error(t, err)
}

func TestInvalidUTF8IsReplaced(t *testing.T) {
	for name, test := range map[string]struct {
		in   []string
		want string
	}{
		"an invalid byte":                        {[]string{"a\xffb"}, "a\uFFFDb"},
		"a character across writes":              {[]string{"a\xe2", "\x82", "\xacb"}, "a€b"},
		"a character that is broken off":         {[]string{"a\xe2\x82", "b"}, "a\uFFFD\uFFFDb"},
		"a character that never gets its end":    {[]string{"a\xf0\x9f\x98"}, "a\uFFFD\uFFFD\uFFFD"},
		"a character that begins and starts new": {[]string{"\xe2", "\xe2\x82\xac"}, "\uFFFD€"},
		"continuations without a beginning":      {[]string{"\x82\x82\x82\x82"}, "\uFFFD\uFFFD\uFFFD\uFFFD"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuffer(t, 0)
			for _, piece := range test.in {
				_, err := b.Write([]byte(piece))
				require.NoError(t, err)
			}
			b.Finish()
			require.Equal(t, test.want, content(t, b))
		})
	}
}

func notice(limit int) string {
	return fmt.Sprintf("\n\x1b[33;1mJob's log exceeded limit of %d bytes. The job goes on, but no more of its output is kept.\x1b[0;m\n", limit)
}

func TestOutputBeyondTheLimitIsDropped(t *testing.T) {
	for name, test := range map[string]struct {
		in   []string
		want string
	}{
		"below the limit":                  {[]string{"123456789"}, "123456789"},
		"a write that reaches the limit":   {[]string{"12345", "67890", "more"}, "1234567890" + notice(10)},
		"a write that passes the limit":    {[]string{"12345", "6789012", "more"}, "1234567890" + notice(10)},
		"a cut in a character":             {[]string{"12345678€9"}, "12345678" + notice(10)},
		"a character cut between writes":   {[]string{"12345678\xe2", "\x82\xac", "x"}, "12345678" + notice(10)},
		"a limit reached when it finishes": {[]string{"12345678\xe2"}, "12345678" + notice(10)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBuffer(t, 10)
			for _, piece := range test.in {
				n, err := b.Write([]byte(piece))
				require.NoError(t, err)
				require.Equal(t, len(piece), n)
			}
			b.Finish()
			require.Equal(t, test.want, content(t, b))
			require.EqualValues(t, len(test.want), b.Size())
			require.Equal(t, fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE([]byte(test.want))), b.Checksum())
		})
	}
}

func TestAFinishedBufferCanOnlyBeRead(t *testing.T) {
	b := newBuffer(t, 0)
	_, err := b.Write([]byte("text"))
	require.NoError(t, err)
	b.Finish()
	_, err = b.Write([]byte("more"))
	require.ErrorIs(t, err, ErrFinished)
	require.Equal(t, "text", content(t, b))
}

func TestCloseRemovesTheFile(t *testing.T) {
	b := newBuffer(t, 0)
	_, err := b.Write([]byte("text"))
	require.NoError(t, err)
	info, err := os.Stat(b.file.Name())
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, b.Close())
	require.NoError(t, b.Close())
	_, err = os.Stat(b.file.Name())
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = b.Write([]byte("text"))
	require.ErrorIs(t, err, ErrFinished)
	_, err = b.ReadAt(0, 1)
	require.ErrorIs(t, err, ErrFinished)
	require.EqualValues(t, 4, b.Size())
}

func TestAFileThatCannotBeWrittenIsReported(t *testing.T) {
	b := newBuffer(t, 0)
	require.NoError(t, b.file.Close())
	_, err := b.Write([]byte("text"))
	require.NoError(t, err, "the text waits in memory")
	_, err = b.ReadAt(0, 4)
	require.ErrorContains(t, err, "writing the job log")
	_, err = b.Write([]byte("text"))
	require.ErrorContains(t, err, "writing the job log")
	require.Error(t, b.Close())
	require.NoError(t, b.Close())
}

func TestWritesAndReadsAtTheSameTime(t *testing.T) {
	b := newBuffer(t, 0)
	line := strings.Repeat("x", 99) + "\n"
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for range 500 {
				_, _ = b.Write([]byte(line))
			}
		})
	}
	var read strings.Builder
	for read.Len() < 4*500*len(line) {
		data, err := b.ReadAt(int64(read.Len()), 1000)
		require.NoError(t, err)
		read.Write(data)
	}
	writers.Wait()
	require.Equal(t, strings.Repeat(line, 2000), read.String())
}

func TestTheLogDoesNotDependOnTheCut(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	rapid.Check(t, func(t *rapid.T) {
		b, err := New(1 << 20)
		require.NoError(t, err)
		defer func() { require.NoError(t, b.Close()) }()
		var whole string
		for _, piece := range rapid.SliceOf(rapid.SliceOf(rapid.SampledFrom([]byte("ab\n\xe2\x82\xac\xf0\x9f\x98\x80\xff\xc3\xa9")))).Draw(t, "pieces") {
			_, err := b.Write(piece)
			require.NoError(t, err)
			whole += string(piece)
		}
		b.Finish()
		got := content(t, b)
		require.Equal(t, string([]rune(whole)), got)
		require.True(t, utf8.ValidString(got))
	})
}
