//go:build unix

package supervisor

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"gitlab.com/gitlab-org/gitlab-runner/commands/processwrapper"
)

// serve serves a process, and connects a client.
func serve(t *testing.T, p *Process) processwrapper.ProcessWrapperClient {
	t.Helper()
	address := "unix://" + filepath.Join(t.TempDir(), "wrapper.sock")
	listener, err := Listen(address, silent())
	require.NoError(t, err)
	server := Serve(listener, p, p.options.Log)
	t.Cleanup(server.Close)
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return processwrapper.NewProcessWrapperClient(conn)
}

func requireAnswer(t *testing.T, client processwrapper.ProcessWrapperClient, want processwrapper.Status, failure string) {
	t.Helper()
	got, err := client.CheckStatus(t.Context(), &processwrapper.CheckStatusRequest{})
	require.NoError(t, err)
	require.Equal(t, want, got.GetStatus())
	require.Equal(t, failure, got.GetFailureReason())
}

// requireRefusals requires that there is nothing that could be asked to end.
func requireRefusals(t *testing.T, client processwrapper.ProcessWrapperClient) {
	t.Helper()
	_, err := client.InitGracefulShutdown(t.Context(), &processwrapper.InitGracefulShutdownRequest{})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	_, err = client.InitForcefulShutdown(t.Context(), &processwrapper.InitForcefulShutdownRequest{})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.ErrorContains(t, err, "no process is running")
}

func TestAClientHasAProcessFinishItsWorkAndIsCalledBack(t *testing.T) {
	url, received := receiver(t, nil)
	p, out, hook := start(t, runner)
	client := serve(t, p)
	requireAnswer(t, client, processwrapper.Status_STATUS_RUNNING, "")

	callback := &processwrapper.ShutdownCallback{Url: url + "/hidden", Method: "PUT", Headers: map[string]string{"X-Token": "hidden"}}
	_, err := client.InitGracefulShutdown(t.Context(), &processwrapper.InitGracefulShutdownRequest{Callback: callback})
	require.NoError(t, err)
	out.shows("quit")
	requireAnswer(t, client, processwrapper.Status_STATUS_IN_SHUTDOWN, "")
	require.Empty(t, received)

	require.NoError(t, p.Reload())
	request := <-received
	require.Equal(t, "PUT", request.Method)
	require.Equal(t, "hidden", request.Header.Get("X-Token"))
	<-p.settled
	requireAnswer(t, client, processwrapper.Status_STATUS_STOPPED, "")
	requireRefusals(t, client)
	require.NotContains(t, logged(t, hook), "hidden")
}

func TestAClientHasAProcessAbortItsWork(t *testing.T) {
	p, out, _ := start(t, runner)
	client := serve(t, p)
	_, err := client.InitForcefulShutdown(t.Context(), &processwrapper.InitForcefulShutdownRequest{})
	require.NoError(t, err)
	out.shows("terminated")
	<-p.settled
	requireAnswer(t, client, processwrapper.Status_STATUS_STOPPED, "exit status 7")
	requireRefusals(t, client)
}

func TestAClientOfAProcessThatWasNotStartedIsToldSo(t *testing.T) {
	client := serve(t, New(Options{Log: silent()}))
	requireAnswer(t, client, processwrapper.Status_STATUS_UNKNOWN, "")
	requireRefusals(t, client)
}

func TestARequestThatCannotBeServedLeavesTheProcessAlone(t *testing.T) {
	p, _, _ := start(t, runner)
	client := serve(t, p)
	for _, test := range []struct {
		callback *processwrapper.ShutdownCallback
		want     codes.Code
	}{
		{&processwrapper.ShutdownCallback{Url: "ftp://x"}, codes.InvalidArgument},
		{&processwrapper.ShutdownCallback{Url: "http://x/" + strings.Repeat("x", maxRequest)}, codes.ResourceExhausted},
	} {
		_, err := client.InitGracefulShutdown(t.Context(), &processwrapper.InitGracefulShutdownRequest{Callback: test.callback})
		require.Equal(t, test.want, status.Code(err), err)
	}
	requireAnswer(t, client, processwrapper.Status_STATUS_RUNNING, "")
}

func TestWhereThereAreNoSignalsAClientIsToldSo(t *testing.T) {
	err := service{log: silent()}.refuse("graceful", ErrNoSignals)
	require.Equal(t, codes.Unimplemented, status.Code(err))
	require.ErrorContains(t, err, "Windows")
}
