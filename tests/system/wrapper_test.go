//go:build system

package system

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"gitlab.com/gitlab-org/gitlab-runner/commands/processwrapper"
	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// wrapper is a `gitlab-runner wrapper` with a manager of the docker executor, and a client of it.
type wrapper struct {
	*stage
	processwrapper.ProcessWrapperClient

	cmd  *exec.Cmd
	done chan struct{}
	err  error // of the process, once done is closed
	log  string
}

func newWrapper(s *stage) *wrapper {
	s.Helper()
	require.NoError(s, s.WriteConfig(s.Text(rig.Config{Executor: "docker"})))
	address := "unix://" + filepath.Join(s.Dir, "wrapper.sock")
	w := &wrapper{stage: s, done: make(chan struct{}), log: filepath.Join(s.Dir, "wrapper.log")}
	log, err := os.Create(w.log)
	require.NoError(s, err)
	w.cmd = exec.Command(s.Program("gitlab-runner"), "wrapper", "--grpc-listen", address, "--process-termination-timeout", "2m",
		"--", "run", "--config", s.ConfigPath())
	w.cmd.Env, w.cmd.Stdout, w.cmd.Stderr = s.Environment(), log, log
	require.NoError(s, w.cmd.Start())
	require.NoError(s, log.Close())
	go func() {
		defer close(w.done)
		w.err = w.cmd.Wait()
	}()
	s.Cleanup(func() {
		_ = w.cmd.Process.Signal(syscall.SIGTERM)
		<-w.done
		if s.Failed() {
			s.Logf("the log of wrapper and manager:\n%s", w.logText())
		}
	})
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	require.NoError(s, err)
	s.Cleanup(func() { require.NoError(s, conn.Close()) })
	w.ProcessWrapperClient = processwrapper.NewProcessWrapperClient(conn)
	return w
}

func (w *wrapper) logText() string {
	w.Helper()
	text, err := os.ReadFile(w.log)
	require.NoError(w, err)
	return string(text)
}

// status is what the wrapper says of the manager.
func (w *wrapper) status() processwrapper.Status {
	w.Helper()
	answer, err := w.CheckStatus(w.Ctx, &processwrapper.CheckStatusRequest{})
	require.NoError(w, err)
	require.Empty(w, answer.GetFailureReason())
	return answer.GetStatus()
}

// requireEnd waits for the wrapper's own end. Nothing of it may be left then.
func (w *wrapper) requireEnd() {
	w.Helper()
	select {
	case <-w.done:
		require.NoError(w, w.err)
	case <-w.Ctx.Done():
		require.Fail(w, "the wrapper did not end")
	}
	processes, err := w.Processes()
	require.NoError(w, err)
	require.Empty(w, processes)
}

func TestTheWrapperLetsAJobEndAndCallsBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.NewGate()
	called := make(chan *http.Request, 8)
	hooks := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { called <- r }))
	defer hooks.Close()
	w := newWrapper(s)
	job := s.Enqueue(coordinator.JobSpec{Script: []string{"echo started", gate.Wait, "sleep 3"}})
	require.NoError(t, job.WaitTrace(s.Ctx, "started\n"))
	require.Equal(t, processwrapper.Status_STATUS_RUNNING, w.status())

	_, err := w.InitGracefulShutdown(s.Ctx, &processwrapper.InitGracefulShutdownRequest{Callback: &processwrapper.ShutdownCallback{
		Url: hooks.URL + "/ended", Method: http.MethodPut, Headers: map[string]string{"X-Token": "a-secret"},
	}})
	require.NoError(t, err)
	s.Eventually(soon, func() bool { return strings.Contains(w.logText(), "Starting graceful shutdown") }, "the manager was not told")
	require.Equal(t, processwrapper.Status_STATUS_IN_SHUTDOWN, w.status())
	next := s.Enqueue(coordinator.JobSpec{Script: []string{"true"}})
	require.Empty(t, called, "the callback came before the end")
	gate.Open()
	s.RequireState(s.Ended(job), coordinator.StateSuccess, "")

	select {
	case request := <-called:
		require.Equal(t, "/ended", request.URL.Path)
		require.Equal(t, http.MethodPut, request.Method)
		require.Equal(t, "a-secret", request.Header.Get("X-Token"))
	case <-s.Ctx.Done():
		require.Fail(t, "there was no callback")
	}
	require.Equal(t, processwrapper.Status_STATUS_STOPPED, w.status())
	require.Equal(t, coordinator.StatePending, next.State())
	_, err = w.InitForcefulShutdown(s.Ctx, &processwrapper.InitForcefulShutdownRequest{})
	require.Equal(t, codes.FailedPrecondition, status.Code(err))
	require.Empty(t, called)

	require.NoError(t, w.cmd.Process.Signal(syscall.SIGTERM))
	w.requireEnd()
	require.NotContains(t, w.logText(), "a-secret")
}

func TestSIGTERMToTheWrapperEndsTheManagerToo(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.NewGate()
	w := newWrapper(s)
	job := s.Enqueue(coordinator.JobSpec{Script: []string{"echo started", gate.Wait}})
	require.NoError(t, job.WaitTrace(s.Ctx, "started\n"))

	require.NoError(t, w.cmd.Process.Signal(syscall.SIGTERM))
	s.RequireState(s.Ended(job), coordinator.StateFailed, "runner_interrupted")
	w.requireEnd()
}

func TestAManagerWhoseWrapperWasKilledFinishesItsJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	gate := s.NewGate()
	w := newWrapper(s)
	job := s.Enqueue(coordinator.JobSpec{Script: []string{"echo started", gate.Wait, "sleep 3"}})
	require.NoError(t, job.WaitTrace(s.Ctx, "started\n"))

	require.NoError(t, w.cmd.Process.Kill())
	<-w.done
	s.Eventually(soon, func() bool { return strings.Contains(w.logText(), "Starting graceful shutdown") }, "the manager was not told")
	next := s.Enqueue(coordinator.JobSpec{Script: []string{"true"}})
	gate.Open()
	s.RequireState(s.Ended(job), coordinator.StateSuccess, "")
	s.Eventually(soon, func() bool {
		processes, err := s.Processes()
		require.NoError(s, err)
		return len(processes) == 0
	}, "the manager outlived its wrapper and its job")
	require.Equal(t, coordinator.StatePending, next.State())
}
