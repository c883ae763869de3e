//go:build unix

package supervisor

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func requireStatus(t *testing.T, p *Process, want Status, failure string) {
	t.Helper()
	got, why := p.Status()
	require.Equal(t, want, got)
	require.Equal(t, failure, why)
}

func TestAProcessFinishesItsWorkWhenAskedTo(t *testing.T) {
	p, out, _ := start(t, runner)
	requireStatus(t, p, Running, "")
	require.NoError(t, p.InitGracefulShutdown(nil))
	out.shows("quit")
	requireStatus(t, p, InShutdown, "")
	require.NoError(t, p.Reload())
	out.shows("hangup")
	<-p.settled
	requireStatus(t, p, Stopped, "")
}

func TestAGracefulShutdownCanBecomeAForcefulOne(t *testing.T) {
	p, out, _ := start(t, runner)
	require.NoError(t, p.InitGracefulShutdown(nil))
	out.shows("quit")
	require.NoError(t, p.InitForcefulShutdown())
	out.shows("terminated")
	<-p.settled
	requireStatus(t, p, Stopped, "exit status 7")
}

func TestWhoIsNotThereCannotBeAskedToEnd(t *testing.T) {
	refuses := func(p *Process) {
		require.ErrorIs(t, p.InitGracefulShutdown(nil), ErrNotRunning)
		require.ErrorIs(t, p.InitForcefulShutdown(), ErrNotRunning)
		require.ErrorIs(t, p.Reload(), ErrNotRunning)
		require.NoError(t, p.Terminate(t.Context(), 0))
	}
	p := New(Options{Path: "/does/not/exist", Log: silent()})
	requireStatus(t, p, Unknown, "")
	refuses(p)
	require.ErrorContains(t, p.Start(), "starting the process")
	requireStatus(t, p, Unknown, "")
	refuses(p)

	p, _, _ = start(t, runner)
	require.NoError(t, p.InitForcefulShutdown())
	<-p.settled
	refuses(p)
}

func TestTerminateAbortsTheWorkAndWaits(t *testing.T) {
	p, out, _ := start(t, runner)
	require.NoError(t, p.Terminate(t.Context(), patience))
	out.shows("terminated")
	requireStatus(t, p, Stopped, "exit status 7")
}

func TestTerminateKillsTheGroupWhenTheTimeIsOver(t *testing.T) {
	p, out, _ := start(t, stubborn)
	err := p.Terminate(t.Context(), 10*time.Millisecond)
	require.ErrorContains(t, err, "was killed")
	require.ErrorContains(t, err, "10ms")
	requireStatus(t, p, Stopped, "signal: killed")
	out.ends()
}

func TestTerminateCanBeHurried(t *testing.T) {
	p, out, _ := start(t, stubborn)
	ctx, hurry := context.WithCancelCause(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Terminate(ctx, patience) }()
	out.shows("terminated")
	cause := errors.New("a second signal")
	hurry(cause)
	require.ErrorIs(t, <-ended, cause)
	out.ends()
}

// A runner takes the second SIGTERM for the wish to end without cleaning up.
func TestTerminateDoesNotAskASecondTime(t *testing.T) {
	p, out, _ := start(t, childless)
	require.NoError(t, p.InitForcefulShutdown())
	out.shows("terminated")
	require.NoError(t, p.abortOnce())
	// A signal that was sent before the first of these would have arrived at the second.
	for range 2 {
		require.NoError(t, p.Reload())
		out.shows("hangup")
	}
	require.NoError(t, p.InitForcefulShutdown(), "whoever asks again means it")
	out.shows("terminated")
	require.Error(t, p.Terminate(t.Context(), 0))
}

// receiver is a server of callbacks.
func receiver(t *testing.T, answer func(http.ResponseWriter, *http.Request)) (url string, received <-chan *http.Request) {
	t.Helper()
	requests := make(chan *http.Request, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		if answer != nil {
			answer(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, requests
}

func TestTheLatestCallbackIsCalledOnce(t *testing.T) {
	url, received := receiver(t, nil)
	p, out, _ := start(t, runner)
	for _, path := range []string{"/first", "/second"} {
		require.NoError(t, p.InitGracefulShutdown(&Callback{URL: url + path}))
		out.shows("quit")
	}
	require.NoError(t, p.InitGracefulShutdown(nil))
	out.shows("quit")
	require.ErrorIs(t, p.InitGracefulShutdown(&Callback{URL: "ftp://x/third"}), ErrCallback)
	require.Empty(t, received)
	require.NoError(t, p.InitForcefulShutdown())
	<-p.settled
	request := <-received
	require.Equal(t, "/second", request.URL.Path)
	require.Equal(t, http.MethodPost, request.Method)
	require.Empty(t, received)
}

func TestTheEndOfTheSupervisorDoesNotWaitForEverForACallback(t *testing.T) {
	url, received := receiver(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	p, out, hook := start(t, runner)
	require.NoError(t, p.InitGracefulShutdown(&Callback{URL: url}))
	out.shows("quit")
	ctx, hurry := context.WithCancelCause(t.Context())
	ended := make(chan error)
	go func() { ended <- p.Terminate(ctx, patience) }()
	<-received
	requireStatus(t, p, Stopped, "exit status 7")
	hurry(errors.New("a second signal"))
	require.NoError(t, <-ended)
	require.Contains(t, logged(t, hook), `"attempt":1,"callback":"`+url+`","error":"a second signal","level":"error","msg":"The callback was not delivered"`)
}
