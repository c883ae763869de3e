package relay_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a relay with a server at its other end, and the stream between them.
func pair(t *testing.T, handler http.Handler) (*relay.Relay, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	stop, err := relay.Serve(far, handler)
	require.NoError(t, err)
	r, err := relay.Listen(t.Context(), "127.0.0.1:0", near)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = r.Close()
		stop()
	})
	return r, near
}

func client(t *testing.T) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestRequestsReachTheServerAtTheOtherEnd(t *testing.T) {
	r, _ := pair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	c := client(t)
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			answer, err := c.Post("http://"+r.Address(), "text/plain", bytes.NewReader(large))
			if err != nil {
				t.Error(err)
				return
			}
			defer answer.Body.Close()
			got, err := io.ReadAll(answer.Body)
			if err != nil || !bytes.Equal(got, large) {
				t.Errorf("%d bytes came back: %v", len(got), err)
			}
		})
	}
	all.Wait()
}

func TestEndOfTheStreamIsToldAndEndsConnections(t *testing.T) {
	r, near := pair(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}))
	failed := make(chan error, 1)
	c := client(t)
	go func() {
		answer, err := c.Post("http://"+r.Address(), "text/plain", strings.NewReader(""))
		if err == nil {
			answer.Body.Close()
		}
		failed <- err
	}()
	require.NoError(t, near.Close())
	select {
	case <-r.Lost():
	case <-time.After(10 * time.Second):
		t.Fatal("the relay did not notice")
	}
	require.NoError(t, r.Close())
	require.Error(t, <-failed)
}

func TestAddressThatIsTakenIsAnError(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	_, err = relay.Listen(t.Context(), taken.Addr().String(), near)
	require.ErrorContains(t, err, "beginning a relay")
}
