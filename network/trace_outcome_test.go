package network

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

func TestTheOutcomeIsReportedInFull(t *testing.T) {
	testTrace(t, TraceOptions{Info: spec.RunnerVersion{Name: "gitlab-runner"}}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		writeText(t, trace, "text\xe2")
		require.NoError(t, trace.Finish(t.Context(), Outcome{Reason: "script_failure", ExitCode: 7}))
		require.Equal(t, JobUpdate{
			Info: spec.RunnerVersion{Name: "gitlab-runner"}, State: JobFailed, FailureReason: "script_failure", ExitCode: 7,
			Checksum: checksum([]byte("text\uFFFD")), Size: 7,
		}, f.final)
		require.Equal(t, "text\uFFFD", string(f.log))
		require.Equal(t, []string{"0s PUT running 0", "0s PATCH 0 text\uFFFD", "0s PUT failed 7"}, f.seen())
	})
}

func TestFinalAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answers []UpdateResult
		limit   int
		want    []string
		fails   string
	}{
		"accepted is asked again, as often as the server says": {
			answers: []UpdateResult{{State: UpdateAccepted}, {State: UpdateAccepted, Interval: time.Second}, {}},
			want:    []string{"0s PATCH 0 text", "0s PUT success 4", "3s PUT success 4", "4s PUT success 4"},
		},
		"aborted is an end": {
			answers: []UpdateResult{{State: UpdateAborted}},
			want:    []string{"0s PATCH 0 text", "0s PUT success 4"},
		},
		"a limit of attempts": {
			answers: []UpdateResult{{State: UpdateFailed}, {State: UpdateFailed}}, limit: 1,
			want:  []string{"0s PATCH 0 text", "0s PUT success 4"},
			fails: "given up after 1 attempts: the server did not take it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			runner := testRunner()
			runner.JobStatusFinalUpdateRetryLimit = test.limit
			testTrace(t, TraceOptions{Runner: runner}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
				f.onPut = func(n int, update JobUpdate) (UpdateResult, bool) {
					if update.State == JobRunning {
						return UpdateResult{}, true
					}
					return test.answers[n-2], true
				}
				trace.Commit(t.Context())
				writeText(t, trace, "text")
				err := trace.Finish(t.Context(), Outcome{Success: true})
				if test.fails == "" {
					require.NoError(t, err)
				} else {
					require.EqualError(t, err, "reporting the outcome of job 7: "+test.fails)
				}
				require.Equal(t, test.want, f.seen()[1:])
			})
		})
	}
}

func TestAMismatchSendsTheWholeLogAgain(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		writeText(t, trace, "text")
		time.Sleep(time.Second)
		f.mu.Lock()
		f.log = nil
		f.mu.Unlock()
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, []string{
			"0s PUT running 0", "75ms PATCH 0 text", "1s PUT success 4", "4s PATCH 0 text", "4s PUT success 4",
		}, f.seen())
	})
}

func TestFailedAttemptsAreRepeatedEverMoreRarely(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		var at []time.Duration
		f.onPut = func(n int, update JobUpdate) (UpdateResult, bool) {
			if update.State != JobRunning {
				at = append(at, time.Since(f.began))
			}
			return UpdateResult{State: UpdateFailed}, update.State != JobRunning
		}
		trace.Commit(t.Context())
		err := trace.Finish(t.Context(), Outcome{Success: true})
		require.ErrorContains(t, err, "given up after 10 attempts")
		require.Len(t, at, 10)
		for i := 1; i < len(at); i++ {
			wait := at[i] - at[i-1]
			require.LessOrEqual(t, wait, time.Second<<(i-1)*3/2)
			require.GreaterOrEqual(t, wait, time.Second<<(i-1)*6/5)
		}
		require.Greater(t, at[9]-at[0], 10*time.Minute)
	})
}

func TestAServerThatNeverSettlesIsGivenUp(t *testing.T) {
	for _, state := range []UpdateState{UpdateAccepted, UpdateLogMismatch} {
		runner := testRunner()
		runner.JobStatusFinalUpdateRetryLimit = 2
		testTrace(t, TraceOptions{Runner: runner}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
			f.onPut = func(_ int, update JobUpdate) (UpdateResult, bool) { return UpdateResult{State: state}, true }
			trace.Commit(t.Context())
			writeText(t, trace, "text")
			require.ErrorContains(t, trace.Finish(t.Context(), Outcome{Success: true}), "given up after 2 attempts")
			require.Less(t, time.Since(f.began), 3*maxUnsettled)
		})
	}
}

func TestFinishEndsWithItsContext(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		f.onPut = func(int, JobUpdate) (UpdateResult, bool) { return UpdateResult{State: UpdateFailed}, true }
		trace.Commit(t.Context())
		cause := errors.New("shutdown")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*time.Second, func() { cancel(cause) })
		require.ErrorIs(t, trace.Finish(ctx, Outcome{}), cause)
		require.Equal(t, 10*time.Second, time.Since(f.began))
	})
}

func TestFinishDoesNotWaitForALostRequest(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		f.mu.Lock()
		f.lost = 1
		f.mu.Unlock()
		writeText(t, trace, "text")
		time.Sleep(time.Second)
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, []string{"0s PUT running 0", "75ms PATCH 0 text", "11s PATCH 0 text", "11s PUT success 4"}, f.seen())
	})
}

func TestAPieceWhoseAnswerIsLostIsNotStoredTwice(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		f.mu.Lock()
		f.lost, f.lostArrive = 1, true
		f.mu.Unlock()
		writeText(t, trace, "text")
		time.Sleep(time.Second)
		writeText(t, trace, "more")
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, []string{
			"0s PUT running 0", "75ms PATCH 0 text", "11s PATCH 0 textmore", "11s PATCH 4 more", "11s PUT success 8",
		}, f.seen())
		require.Equal(t, "textmore", string(f.log))
	})
}

func TestALostPieceIsNoticedWhenTheRestIsSent(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		writeText(t, trace, "0123456789")
		time.Sleep(time.Second)
		f.mu.Lock()
		f.log = f.log[:4]
		f.mu.Unlock()
		writeText(t, trace, "abc")
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, []string{
			"0s PUT running 0", "75ms PATCH 0 0123456789", "1s PATCH 10 abc", "1s PATCH 4 456789abc", "1s PUT success 13",
		}, f.seen())
	})
}

func TestPiecesInTheEnd(t *testing.T) {
	for name, test := range map[string]struct {
		results []PatchResult
		want    []string
		log     string
		fails   string
	}{
		"aborted": {
			[]PatchResult{{State: PatchAborted}},
			[]string{"0s PATCH 0 text", "0s PUT success 4"}, "", "",
		},
		"not wanted": {
			[]PatchResult{{State: PatchNotFound}},
			[]string{"0s PATCH 0 text", "0s PUT success 4"}, "", "",
		},
		"failed": {
			[]PatchResult{{State: PatchFailed, Interval: time.Minute}},
			[]string{"0s PATCH 0 text", "1m0s PATCH 0 text", "1m0s PUT success 4"}, "text", "",
		},
		"a server that has more than there is": {
			[]PatchResult{{State: PatchRangeMismatch, Offset: 100}},
			[]string{"0s PATCH 0 text", "0s PUT success 4"}, "", "",
		},
		"a server that never agrees": {
			[]PatchResult{{State: PatchRangeMismatch}, {State: PatchRangeMismatch}, {State: PatchRangeMismatch},
				{State: PatchRangeMismatch}, {State: PatchRangeMismatch}, {State: PatchRangeMismatch}},
			[]string{"0s PATCH 0 text", "0s PATCH 0 text", "3s PATCH 0 text", "6s PATCH 0 text", "9s PATCH 0 text", "12s PATCH 0 text"},
			"", "does not agree about the job log",
		},
	} {
		t.Run(name, func(t *testing.T) {
			runner := testRunner()
			runner.JobStatusFinalUpdateRetryLimit = 2
			if test.fails != "" {
				runner.JobStatusFinalUpdateRetryLimit = 1
			}
			testTrace(t, TraceOptions{Runner: runner}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
				f.onPut = func(int, JobUpdate) (UpdateResult, bool) { return UpdateResult{}, true }
				f.onPatch = func(n int, _ []byte, _ int64) (PatchResult, bool) {
					if n > len(test.results) {
						return PatchResult{}, false
					}
					return test.results[n-1], true
				}
				trace.Commit(t.Context())
				writeText(t, trace, "text")
				err := trace.Finish(t.Context(), Outcome{Success: true})
				if test.fails == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, test.fails)
				}
				require.Equal(t, test.want, f.seen()[1:])
				require.Equal(t, test.log, string(f.log))
			})
		})
	}
}

func TestTheOutcomeIsReportedEvenIfTheLogCannotBeRead(t *testing.T) {
	for _, early := range []bool{true, false} {
		testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
			f.onPut = func(int, JobUpdate) (UpdateResult, bool) { return UpdateResult{}, true }
			trace.Commit(t.Context())
			writeText(t, trace, "text")
			require.NoError(t, trace.buffer.Close())
			if early {
				time.Sleep(time.Second)
			}
			require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
			require.Len(t, f.seen(), 2)
			require.Contains(t, f.seen()[1], "PUT success 4")
		})
	}
}
