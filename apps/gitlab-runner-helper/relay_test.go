package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/relay"
)

// streams are the far ends of the helper's standard input and output.
type streams struct {
	io.Reader
	io.WriteCloser
}

// untilEnd tells of the end of what is read from it.
type untilEnd struct {
	io.Reader
	ended chan struct{}
}

func (u *untilEnd) Read(data []byte) (int, error) {
	n, err := u.Reader.Read(data)
	if err != nil {
		close(u.ended)
	}
	return n, err
}

func TestServerAtTheOtherEndOfTheStandardStreamsIsReached(t *testing.T) {
	p, dir := sourcesPlan(t)
	target, err := url.Parse(p.Sources.RemoteURL)
	require.NoError(t, err)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p.Relay = free.Addr().String()
	require.NoError(t, free.Close())
	server := &url.URL{Scheme: target.Scheme, Host: target.Host}
	for _, address := range []*string{&p.Sources.RemoteURL, &p.Sources.RemoteURLWithCredentials} {
		*address = strings.Replace(*address, target.Host, p.Relay, 1)
	}

	cmd, out := helper(t, "run-stage")
	cmd.Stdout = nil
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	document, err := json.Marshal(p)
	require.NoError(t, err)
	_, err = stdin.Write(document)
	require.NoError(t, err)

	ended := make(chan struct{})
	stop, err := relay.Serve(streams{&untilEnd{stdout, ended}, stdin}, httputil.NewSingleHostReverseProxy(server))
	require.NoError(t, err)
	// The output ends before the process is waited for: see exec.Cmd.StdoutPipe.
	<-ended
	stop()
	require.NoError(t, cmd.Wait(), "%s", out)
	_, err = os.Stat(filepath.Join(dir, "readme"))
	require.NoError(t, err)
	require.Contains(t, out.String(), "Checking out")
}
