package docker

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/tests/transcript"
)

// endedProcess is a container that has ended, and the engine's side of its streams.
func endedProcess(log io.Writer) (*process, net.Conn) {
	near, far := net.Pipe()
	p := &process{stream: docker.NewStream(near, near), exit: later(func() docker.Exit { return docker.Exit{Code: 3} })}
	p.feed("", log, log)
	return p, far
}

func TestOutputThatComesSlowlyAfterTheEndOfItsContainerIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &transcript.Log{}
		p, far := endedProcess(log)
		defer p.close()
		go func() {
			defer far.Close()
			for range 4 {
				time.Sleep(lastOutput - time.Second)
				_, _ = io.WriteString(frames{far, 1}, "line\n")
			}
		}()
		code, err := p.wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, 3, code)
		require.Equal(t, "line\nline\nline\nline\n", log.String())
		require.NoError(t, p.outputError())
	})
}

func TestOutputWhoseEndDoesNotComeIsGivenUpAndThatIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &transcript.Log{}
		p, far := endedProcess(log)
		defer p.close()
		defer far.Close()
		go func() { _, _ = io.WriteString(frames{far, 1}, "line\n") }()
		begin := time.Now()
		code, err := p.wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, 3, code)
		require.Equal(t, "line\n", log.String())
		require.Less(t, time.Since(begin), 2*lastOutput+time.Second)
		require.ErrorIs(t, p.outputError(), errOutputCut)
	})
}
