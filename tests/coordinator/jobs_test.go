package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

func TestJobGoesFromQueueToSuccess(t *testing.T) {
	c := start(t, coordinator.Config{UpdateInterval: 2500 * time.Millisecond})
	cl := newClient(t, c)
	status, _ := cl.request()
	require.Equal(t, http.StatusNoContent, status)

	job := enqueue(t, c, coordinator.JobSpec{
		Name: "unit", Image: coordinator.Image{Name: "busybox"}, BeforeScript: []string{"one"}, Script: []string{"two"},
		AfterScript: []string{"three"}, Variables: []coordinator.Variable{{Key: "MINE", Value: "1"}, {Key: "EMPTY"}},
	})
	got := cl.take()
	require.Equal(t, job.ID(), got.ID)
	require.Equal(t, job.Token(), got.Token)
	require.Equal(t, []string{"one", "two"}, got.Steps[0].Script)
	require.Equal(t, "after_script", got.Steps[1].Name)
	require.Equal(t, got.Token, got.variable("CI_JOB_TOKEN"))
	require.Equal(t, c.URL(), got.variable("CI_SERVER_URL"))
	require.Equal(t, "1", got.variable("MINE"))
	require.Equal(t, "busybox", got.Image.Name)
	require.Equal(t, coordinator.StatePending, job.State())

	status, _ = cl.request()
	require.Equal(t, http.StatusNoContent, status, "a job is handed out once")

	require.Equal(t, http.StatusOK, cl.update(got, "running", nil).status)
	require.Equal(t, coordinator.StateRunning, job.State())

	answer := cl.patch(got, 0, "hello ")
	require.Equal(t, http.StatusAccepted, answer.status)
	require.Equal(t, "0-6", answer.header.Get("Range"))
	require.Equal(t, "running", answer.header.Get("Job-Status"))
	require.Equal(t, "3", answer.header.Get("X-GitLab-Trace-Update-Interval"))
	require.Equal(t, http.StatusAccepted, cl.patch(got, 6, "world\n").status)
	require.NoError(t, job.WaitTrace(t.Context(), "world"))

	require.Equal(t, http.StatusOK, cl.update(got, "success", output("hello world\n")).status)
	require.NoError(t, job.Wait(t.Context()))

	record := job.Record()
	require.Equal(t, coordinator.StateSuccess, record.State)
	require.Equal(t, "hello world\n", string(record.Trace))
	require.Len(t, record.Patches, 2)
	require.Len(t, record.Updates, 2)
	require.Equal(t, cl.systemID, record.Assignments[0].SystemID)
	require.Equal(t, "docker-autoscaler", record.Assignments[0].Info.Executor)
	moments := []time.Time{
		record.Times.Enqueued, record.Times.Pending, record.Times.HandedOut, record.Times.Running,
		record.Times.FirstTrace, record.Times.Finished,
	}
	for i := 1; i < len(moments); i++ {
		require.False(t, moments[i].Before(moments[i-1]), "moment %d", i)
	}
	require.Equal(t, "s_0123456789ab", c.Runners()[0].Managers[0].SystemID)
	require.Empty(t, c.Violations())
}

func TestFailureIsRecordedWithReasonAndExitCode(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	job := enqueue(t, c, coordinator.JobSpec{})
	got := cl.takeRunning()
	require.Equal(t, http.StatusAccepted, cl.patch(got, 0, "oh").status)
	require.Equal(t, http.StatusOK, cl.update(got, "failed", failed("oh", "script_failure", 3)).status)
	record := job.Record()
	require.Equal(t, coordinator.StateFailed, record.State)
	require.Equal(t, "script_failure", record.FailureReason)
	require.Equal(t, 3, record.ExitCode)
	require.Empty(t, c.Violations())
}

func TestJobsWaitingBehindOthersAreFoundByQueueVersion(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	for range 3 {
		enqueue(t, c, coordinator.JobSpec{})
	}
	for range 3 {
		cl.take()
	}
	status, _ := cl.request()
	require.Equal(t, http.StatusNoContent, status)
	require.Empty(t, c.Violations())
}

func TestLongPollingHoldsTheRequestUntilAJobComes(t *testing.T) {
	c := start(t, coordinator.Config{LongPoll: time.Minute})
	cl := newClient(t, c)
	status, _ := cl.request()
	require.Equal(t, http.StatusNoContent, status, "without a queue version there is nothing to wait for")

	taken := make(chan payload)
	go func() {
		_, job := cl.request()
		taken <- job
	}()
	select {
	case <-taken:
		t.Fatal("the request was not held")
	case <-time.After(100 * time.Millisecond):
	}
	job := enqueue(t, c, coordinator.JobSpec{})
	require.Equal(t, job.ID(), (<-taken).ID)
}

func TestLongPollingGivesUpAfterItsTime(t *testing.T) {
	c := start(t, coordinator.Config{LongPoll: 50 * time.Millisecond})
	cl := newClient(t, c)
	cl.request()
	began := time.Now()
	status, _ := cl.request()
	require.Equal(t, http.StatusNoContent, status)
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
}

func TestCloseEndsHeldRequests(t *testing.T) {
	c := start(t, coordinator.Config{LongPoll: time.Hour})
	cl := newClient(t, c)
	cl.request()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cl.request()
	}()
	require.Eventually(t, func() bool { return len(c.Requests()) == 1 }, soon, time.Millisecond)
	require.NoError(t, c.Close())
	<-ended
}

func TestUnconfirmedJobIsGivenToSomebodyElse(t *testing.T) {
	c := start(t, coordinator.Config{CommitTimeout: time.Second, LongPoll: time.Minute})
	cl := newClient(t, c)
	job := enqueue(t, c, coordinator.JobSpec{})
	first := cl.take()
	cl.request()
	second := cl.take()
	require.Equal(t, first.ID, second.ID)
	require.NotEqual(t, first.Token, second.Token)
	require.Equal(t, []string{"commit-timeout"}, breaches(c))

	require.Equal(t, http.StatusConflict, cl.update(first, "running", nil).status)
	require.Equal(t, http.StatusOK, cl.update(second, "running", nil).status)
	require.Len(t, job.Record().Assignments, 2)
}

func TestKeepAliveExtendsTheTimeToConfirm(t *testing.T) {
	c := start(t, coordinator.Config{CommitTimeout: time.Second})
	cl := newClient(t, c)
	enqueue(t, c, coordinator.JobSpec{})
	got := cl.take()
	for began := time.Now(); time.Since(began) < 2500*time.Millisecond; {
		require.Equal(t, http.StatusOK, cl.update(got, "pending", nil).status)
	}
	require.Equal(t, http.StatusOK, cl.update(got, "running", nil).status)
	require.Empty(t, c.Violations())
}

func TestRunnerWithoutTwoPhaseCommitRunsAtOnce(t *testing.T) {
	c := start(t, coordinator.Config{Tolerate: []coordinator.Rule{coordinator.RuleInfo}})
	cl := newClient(t, c)
	cl.features["two_phase_job_commit"] = false
	job := enqueue(t, c, coordinator.JobSpec{})
	cl.take()
	require.Equal(t, coordinator.StateRunning, job.State())
}

func TestGracefulCancelLetsTheJobFinish(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	job := enqueue(t, c, coordinator.JobSpec{})
	got := cl.takeRunning()
	job.Cancel(true)
	require.Equal(t, coordinator.StateCanceling, job.State())

	answer := cl.patch(got, 0, "after_script")
	require.Equal(t, http.StatusAccepted, answer.status)
	require.Equal(t, "canceling", answer.header.Get("Job-Status"))
	require.Equal(t, "canceling", cl.update(got, "running", nil).header.Get("Job-Status"))

	require.Equal(t, http.StatusOK, cl.update(got, "failed", failed("after_script", "job_canceled", 1)).status)
	require.Equal(t, coordinator.StateCanceled, job.State())
	require.Equal(t, "job_canceled", job.Record().FailureReason)
	require.Empty(t, c.Violations())
}

func TestImmediateCancelRefusesWhatFollows(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	job := enqueue(t, c, coordinator.JobSpec{})
	got := cl.takeRunning()
	job.Cancel(false)
	require.NoError(t, job.Wait(t.Context()))

	for range 4 {
		answer := cl.patch(got, 0, "x")
		require.Equal(t, http.StatusForbidden, answer.status)
		require.Equal(t, "canceled", answer.header.Get("Job-Status"))
	}
	require.Empty(t, c.Violations())
	cl.patch(got, 0, "x")
	require.Equal(t, []string{"stopped"}, breaches(c))
}

func TestGracefulCancelWithoutTheFeatureIsImmediate(t *testing.T) {
	c := start(t, coordinator.Config{Tolerate: []coordinator.Rule{coordinator.RuleInfo}})
	cl := newClient(t, c)
	cl.features["cancel_gracefully"] = false
	job := enqueue(t, c, coordinator.JobSpec{})
	cl.takeRunning()
	job.Cancel(true)
	require.Equal(t, coordinator.StateCanceled, job.State())
}

func TestJobFailedByTheServerTellsTheRunner(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	job := enqueue(t, c, coordinator.JobSpec{})
	got := cl.takeRunning()
	job.Fail("stuck_or_timeout_failure")
	answer := cl.update(got, "running", nil)
	require.Equal(t, http.StatusForbidden, answer.status)
	require.Equal(t, "failed", answer.header.Get("Job-Status"))
	require.Equal(t, "stuck_or_timeout_failure", job.Record().FailureReason)
	require.Empty(t, c.Violations())
}

func TestCanceledBeforeHandingOutIsNeverHandedOut(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	enqueue(t, c, coordinator.JobSpec{}).Cancel(true)
	status, _ := cl.request()
	require.Equal(t, http.StatusNoContent, status)
}

func TestTraceBeyondTheLimitFailsTheJob(t *testing.T) {
	c := start(t, coordinator.Config{MaxTraceSize: 4})
	cl := newClient(t, c)
	job := enqueue(t, c, coordinator.JobSpec{})
	got := cl.takeRunning()
	require.Equal(t, http.StatusAccepted, cl.patch(got, 0, "1234").status)
	answer := cl.patch(got, 4, "5")
	require.Equal(t, http.StatusForbidden, answer.status)
	require.Equal(t, "failed", answer.header.Get("Job-Status"))
	require.Equal(t, "trace_size_exceeded", job.Record().FailureReason)
}

func TestPatchMayChangeThePayload(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	enqueue(t, c, coordinator.JobSpec{Patch: func(payload map[string]any) { payload["image"] = map[string]any{"name": "changed"} }})
	require.Equal(t, "changed", cl.take().Image.Name)
}

func TestTagsDecideWhichRunnerTakesAJob(t *testing.T) {
	c := start(t, coordinator.Config{})
	untagged := newClient(t, c)
	gpu := newClient(t, c)
	gpu.token, gpu.systemID = c.AddRunner(coordinator.RunnerSpec{Tags: []string{"gpu", "big"}}), "r_abcdefABCDEF"
	tagged := enqueue(t, c, coordinator.JobSpec{Tags: []string{"gpu"}})
	plain := enqueue(t, c, coordinator.JobSpec{})
	require.Equal(t, plain.ID(), untagged.take().ID)
	require.Equal(t, tagged.ID(), gpu.take().ID)
	enqueue(t, c, coordinator.JobSpec{})
	status, _ := gpu.request()
	require.Equal(t, http.StatusNoContent, status)

	require.NoError(t, c.SetPaused(untagged.token, true))
	status, _ = untagged.request()
	require.Equal(t, http.StatusNoContent, status)
	require.NoError(t, c.SetPaused(untagged.token, false))
	untagged.take()
	require.Error(t, c.SetPaused("nobody", true))
	require.Empty(t, c.Violations())
}

func TestWaitTellsWhatItWaitedFor(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	job := enqueue(t, c, coordinator.JobSpec{Name: "slow"})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	require.ErrorContains(t, job.Wait(ctx), `"slow", now pending: enough`)
	require.ErrorContains(t, job.WaitState(ctx, coordinator.StateRunning), "enough")
	got := cl.takeRunning()
	require.NoError(t, job.WaitState(t.Context(), coordinator.StateRunning))
	cl.update(got, "success", output(""))
	require.ErrorContains(t, job.WaitTrace(t.Context(), "needle"), "ended as success without")
}

func TestSubscribersSeeEverythingInOrder(t *testing.T) {
	c := start(t, coordinator.Config{})
	cl := newClient(t, c)
	events := c.Subscribe()
	job := enqueue(t, c, coordinator.JobSpec{})
	got := cl.takeRunning()
	cl.patch(got, 0, "ab")
	cl.patch(got, 2, "c")
	cl.update(got, "success", output("abc"))
	require.NoError(t, c.Close())

	var seen []string
	for {
		event, err := events.Next(t.Context())
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		require.Equal(t, job, event.Job)
		seen = append(seen, string(event.Kind)+" "+string(event.State)+" "+string(event.Data))
	}
	require.Equal(t, []string{
		"state pending ", "handed-out pending ", "state running ", "trace running ab", "trace running c", "state success ",
	}, seen)
}

func TestNextEndsWithItsContext(t *testing.T) {
	c := start(t, coordinator.Config{})
	events := c.Subscribe()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err := events.Next(ctx)
	require.ErrorContains(t, err, "enough")
	events.Close()
	events.Close()
	_, err = events.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
}

func TestPlainLogJoinsAndStrips(t *testing.T) {
	stamp := "2026-08-22T10:11:12.000001Z "
	tests := map[string]struct{ log, want string }{
		"plain lines":        {"a\nb", "a\nb\n"},
		"colours":            {"\x1b[32;1mgreen\x1b[0;m\n", "green\n"},
		"bare section":       {"section_start:1787393472:get_sources\r\x1b[0K\x1b[36;1mGetting\x1b[0;m\n", "Getting\n"},
		"timestamps":         {stamp + "00O one\n" + stamp + "01E two\n", "one\ntwo\n"},
		"section with stamp": {stamp + "00O section_start:1:prepare_script\r\x1b[0K\n" + stamp + "00O+Preparing\n", "Preparing\n"},
		"joined per stream":  {stamp + "01O long \n" + stamp + "00O other\n" + stamp + "01O+line\n", "long line\nother\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.want, coordinator.PlainLog([]byte(test.log))) })
	}
}

func FuzzPlainLog(f *testing.F) {
	f.Add([]byte("2026-08-22T10:11:12.000001Z 00O+x\nsection_start:1:a\r\x1b[0Kb"))
	f.Fuzz(func(t *testing.T, log []byte) {
		plain := coordinator.PlainLog(log)
		if plain != "" && !strings.HasSuffix(plain, "\n") {
			t.Fatalf("%q does not end its last line", plain)
		}
	})
}

func TestManyRunnersShareTheQueue(t *testing.T) {
	const runners, jobs = 8, 200
	c := start(t, coordinator.Config{LongPoll: time.Minute})
	for range jobs {
		enqueue(t, c, coordinator.JobSpec{})
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for number := range runners {
		cl := newClient(t, c)
		cl.ctx, cl.systemID = ctx, fmt.Sprintf("r_%012d", number)
		all.Go(func() {
			for {
				status, job := cl.request()
				if status == 0 {
					return
				}
				if status == http.StatusCreated {
					cl.update(job, "running", nil)
					cl.patch(job, 0, "x")
					cl.update(job, "success", output("x"))
				}
			}
		})
	}
	for _, job := range c.Jobs() {
		require.NoError(t, job.Wait(t.Context()))
		require.Equal(t, coordinator.StateSuccess, job.State())
		require.Len(t, job.Record().Assignments, 1)
	}
	cancel()
	all.Wait()
	require.Empty(t, c.Violations())
}
