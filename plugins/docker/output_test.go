package docker

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/docker/docker/pkg/stdcopy"
	"github.com/stretchr/testify/require"
)

func TestTheTailOfAnOutputIsOneLine(t *testing.T) {
	whole := &tail{limit: 64}
	_, err := whole.Write([]byte("first\r\n\nsecond\n"))
	require.NoError(t, err)
	require.Equal(t, "first; second", whole.String())

	cut := &tail{limit: 8}
	for range 1000 {
		n, err := cut.Write([]byte("abcdefghij\n"))
		require.NoError(t, err)
		require.Equal(t, 11, n)
	}
	require.Equal(t, "...defghij", cut.String())
	require.LessOrEqual(t, len(cut.kept), 8)
}

func TestAPlainLogIsBothStreams(t *testing.T) {
	var framed bytes.Buffer
	_, _ = stdcopy.NewStdWriter(&framed, stdcopy.Stdout).Write([]byte("out\n"))
	_, _ = stdcopy.NewStdWriter(&framed, stdcopy.Stderr).Write([]byte("err\n"))
	log := newPlainLog(io.NopCloser(&framed))
	text, err := io.ReadAll(log)
	require.NoError(t, err)
	require.Equal(t, "out\nerr\n", string(text))
	require.NoError(t, log.Close())
}

func TestAPlainLogEndsWhenItIsClosed(t *testing.T) {
	raw, engine := io.Pipe()
	log := newPlainLog(raw)
	go func() {
		frames := stdcopy.NewStdWriter(engine, stdcopy.Stdout)
		for {
			if _, err := frames.Write([]byte("more\n")); err != nil {
				return
			}
		}
	}()
	_, err := io.ReadFull(log, make([]byte, 10))
	require.NoError(t, err)
	require.NoError(t, log.Close())
	_, err = log.Read(make([]byte, 1))
	require.Error(t, err)
}

func TestAPlainLogPassesErrorsOn(t *testing.T) {
	log := newPlainLog(io.NopCloser(io.MultiReader(strings.NewReader("\x01\x00"), errorReader{errors.New("cut")})))
	_, err := io.ReadAll(log)
	require.ErrorContains(t, err, "cut")
	require.NoError(t, log.Close())
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

func TestFilesArePackedWithTheirFolders(t *testing.T) {
	packed, err := archive([]file{
		{path: "/etc/ssh/instance/host_key", mode: 0o600, content: []byte("private")},
		{path: "/etc/ssh/instance/authorized_keys", mode: 0o644, content: []byte("public")},
	})
	require.NoError(t, err)
	r := tar.NewReader(bytes.NewReader(packed))
	var names []string
	for {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.Zero(t, header.Uid)
		names = append(names, header.Name)
	}
	require.Equal(t, []string{"etc/ssh/instance/", "etc/ssh/instance/host_key", "etc/ssh/instance/authorized_keys"}, names)
}
