package network

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
)

func TestATrivialJobTakesFourRequests(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		require.Equal(t, Committed, trace.Commit(t.Context()))
		writeText(t, trace, "one ")
		time.Sleep(50 * time.Millisecond)
		writeText(t, trace, "two ")
		time.Sleep(950 * time.Millisecond)
		writeText(t, trace, "three")
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, []string{
			"0s PUT running 0",
			"75ms PATCH 0 one two ",
			"1s PATCH 8 three",
			"1s PUT success 13",
		}, f.seen())
		require.Equal(t, "one two three", string(f.log))
	})
}

func TestOutputBeforeTheCommitIsSentAfterIt(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		writeText(t, trace, "early")
		time.Sleep(time.Minute)
		require.Empty(t, f.seen())
		trace.Commit(t.Context())
		time.Sleep(time.Second)
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, []string{"1m0s PUT running 0", "1m0.075s PATCH 0 early", "1m1s PUT success 5"}, f.seen())
	})
}

func TestPiecesAreAnIntervalApartAndSoonAfterSilence(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		for range 40 {
			writeText(t, trace, ".")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(6 * time.Second)
		writeText(t, trace, "!")
		time.Sleep(time.Second)
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, []string{
			"0s PUT running 0",
			"75ms PATCH 0 .",
			"3.075s PATCH 1 (30 bytes)",
			"6.075s PATCH 31 .........",
			"10.075s PATCH 40 !",
			"11s PUT success 41",
		}, f.seen())
	})
}

func TestLargeLogsAreSentInPieces(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		writeText(t, trace, strings.Repeat("x", 2*maxPiece+maxPiece/2))
		time.Sleep(time.Second)
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, []string{
			"0s PUT running 0",
			"75ms PATCH 0 (1048576 bytes)",
			"1s PATCH 1048576 (1048576 bytes)",
			"1s PATCH 2097152 (524288 bytes)",
			"1s PUT success 2621440",
		}, f.seen())
	})
}

func TestKeepAlives(t *testing.T) {
	for name, test := range map[string]struct {
		interval time.Duration
		dynamic  bool
		want     []time.Duration
	}{
		"quick while the server asks for no rest":      {0, false, []time.Duration{5, 10, 15}},
		"quick while somebody watches":                 {3, false, []time.Duration{5, 10, 15}},
		"restful if the server asks for it":            {10, false, []time.Duration{30, 60, 90}},
		"never more often than the server's interval":  {60, false, []time.Duration{60, 120, 180}},
		"rarer with the interval, by the feature flag": {60, true, []time.Duration{240, 480, 720}},
		"not more often than restful, by the flag":     {6, true, []time.Duration{30, 60, 90}},
		"at least every half an hour, by the flag":     {900, true, []time.Duration{1800, 3600, 5400}},
	} {
		t.Run(name, func(t *testing.T) {
			testTrace(t, TraceOptions{DynamicForceInterval: test.dynamic}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
				f.onPut = func(int, JobUpdate) (UpdateResult, bool) {
					return UpdateResult{Interval: test.interval * time.Second}, true
				}
				trace.Commit(t.Context())
				time.Sleep((test.want[2] + 1) * time.Second)
				want := []string{"0s PUT running 0"}
				for _, at := range test.want {
					want = append(want, (at*time.Second).String()+" PUT running 0")
				}
				require.Equal(t, want, f.seen())
				trace.Discard()
			})
		})
	}
}

func TestOutputDelaysKeepAlives(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		for range 10 {
			writeText(t, trace, ".")
			time.Sleep(4 * time.Second)
		}
		for _, call := range f.seen()[1:] {
			require.Contains(t, call, "PATCH")
		}
		trace.Discard()
	})
}

func TestCancelIsHeardOnceFromAnyAnswerWithinTenSeconds(t *testing.T) {
	for _, silent := range []bool{true, false} {
		testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
			canceling := func() bool { return time.Since(f.began) > 20*time.Second }
			f.onPut = func(int, JobUpdate) (UpdateResult, bool) { return UpdateResult{CancelRequested: canceling()}, true }
			f.onPatch = func(_ int, content []byte, offset int64) (PatchResult, bool) {
				return PatchResult{Offset: offset + int64(len(content)), CancelRequested: canceling()}, true
			}
			heard := make(chan time.Duration, 10)
			trace.OnCancel(func() { heard <- time.Since(f.began) })
			trace.OnAbort(func() { t.Error("not aborted") })
			trace.Commit(t.Context())
			for range 60 {
				if !silent {
					writeText(t, trace, ".")
				}
				time.Sleep(time.Second)
			}
			require.Len(t, heard, 1)
			require.Less(t, <-heard, 30*time.Second)
			require.NoError(t, trace.Finish(t.Context(), Outcome{Reason: "job_canceled"}))
		})
	}
}

func TestACancellationIsDeliveredToWhoeverAsksLater(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		f.onPut = func(n int, _ JobUpdate) (UpdateResult, bool) { return UpdateResult{CancelRequested: n > 1}, true }
		trace.Commit(t.Context())
		time.Sleep(6 * time.Second)
		calls := 0
		trace.OnCancel(func() { calls++ })
		require.Equal(t, 1, calls)
		trace.OnCancel(func() { calls++ })
		require.Equal(t, 1, calls, "once is enough")
		trace.Discard()
	})
}

func TestAbortEndsTheReports(t *testing.T) {
	for name, prepare := range map[string]func(f *fakeGitLab){
		"by a report": func(f *fakeGitLab) {
			f.onPut = func(n int, _ JobUpdate) (UpdateResult, bool) {
				return UpdateResult{State: UpdateAborted}, n > 1
			}
		},
		"by a piece of the log": func(f *fakeGitLab) {
			f.onPatch = func(int, []byte, int64) (PatchResult, bool) { return PatchResult{State: PatchAborted}, true }
			f.onPut = func(n int, update JobUpdate) (UpdateResult, bool) {
				return UpdateResult{State: UpdateAborted}, update.State != JobRunning
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
				prepare(f)
				aborted := make(chan bool, 10)
				trace.OnAbort(func() { aborted <- true })
				trace.OnCancel(func() { t.Error("not cancelled") })
				trace.Commit(t.Context())
				if strings.Contains(name, "piece") {
					writeText(t, trace, "text")
				}
				time.Sleep(time.Minute)
				require.Len(t, aborted, 1)
				require.Len(t, f.seen(), 2)
				require.NoError(t, trace.Finish(t.Context(), Outcome{Reason: "job_canceled"}))
				require.Len(t, f.seen(), 3)
				require.Contains(t, f.seen()[2], "PUT failed", "one last word, which costs little")
			})
		})
	}
}

func TestCommit(t *testing.T) {
	for name, test := range map[string]struct {
		result UpdateResult
		want   CommitState
		calls  int
	}{
		"ok":       {UpdateResult{}, Committed, 2},
		"accepted": {UpdateResult{State: UpdateAccepted}, Committed, 2},
		"canceled": {UpdateResult{CancelRequested: true}, CommitCanceled, 1},
		"aborted":  {UpdateResult{State: UpdateAborted, CancelRequested: true}, CommitAborted, 1},
	} {
		t.Run(name, func(t *testing.T) {
			testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
				f.onPut = func(int, JobUpdate) (UpdateResult, bool) { return test.result, true }
				require.Equal(t, test.want, trace.Commit(t.Context()))
				writeText(t, trace, "text")
				time.Sleep(time.Second)
				require.Len(t, f.seen(), test.calls)
				trace.Discard()
				require.Len(t, f.seen(), test.calls)
				_, err := trace.Write([]byte("late"))
				require.Error(t, err)
			})
		})
	}
}

func TestNoLogIsSentBeforeTheServerKnowsThatTheJobRuns(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		f.onPut = func(n int, _ JobUpdate) (UpdateResult, bool) { return UpdateResult{State: UpdateFailed}, n <= 3 }
		require.Equal(t, Committed, trace.Commit(t.Context()))
		writeText(t, trace, "text")
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{
			"0s PUT running 0", "3s PUT running 4", "6s PUT running 4", "9s PUT running 4", "9s PATCH 0 text",
		}, f.seen())
		trace.Discard()
	})
}

func TestFailedPiecesAreSentAgain(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		f.onPatch = func(n int, _ []byte, offset int64) (PatchResult, bool) {
			return PatchResult{State: PatchFailed, Offset: offset}, n <= 2
		}
		trace.Commit(t.Context())
		writeText(t, trace, "text")
		time.Sleep(7 * time.Second)
		require.Equal(t, []string{
			"0s PUT running 0", "75ms PATCH 0 text", "3.075s PATCH 0 text", "5s PUT running 4", "6.075s PATCH 0 text",
		}, f.seen())
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, "text", string(f.log))
	})
}

// The server goes away in the middle of a job, some time before its end, and at its very end.
func TestTenMinutesWithoutAServerLoseNoByte(t *testing.T) {
	for name, gone := range map[string]time.Duration{"while the job runs": 2 * time.Minute, "over the end of the job": 11 * time.Minute, "from its end on": 15*time.Minute + 2*time.Second} {
		t.Run(name, func(t *testing.T) {
			testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
				down := func() bool {
					now := time.Since(f.began)
					return now >= gone && now < gone+10*time.Minute
				}
				f.onPut = func(int, JobUpdate) (UpdateResult, bool) { return UpdateResult{State: UpdateFailed}, down() }
				f.onPatch = func(_ int, _ []byte, offset int64) (PatchResult, bool) {
					return PatchResult{State: PatchFailed, Offset: offset}, down()
				}
				trace.Commit(t.Context())
				var all strings.Builder
				for second := 0; second < 15*60; second += 7 {
					line := fmt.Sprintf("%d %s\n", second, strings.Repeat("x", second%97))
					all.WriteString(line)
					writeText(t, trace, line)
					time.Sleep(7 * time.Second)
				}
				require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
				require.Equal(t, all.String(), string(f.log))
				require.Equal(t, JobSuccess, f.final.State)
				require.Equal(t, checksum(f.log), f.final.Checksum)
			})
		})
	}
}

func TestTheServersAmountOfTheLogCounts(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		writeText(t, trace, "0123456789")
		time.Sleep(time.Second)
		f.mu.Lock()
		f.log = f.log[:4] // The server lost something.
		f.mu.Unlock()
		writeText(t, trace, "abc")
		time.Sleep(6 * time.Second)
		require.Equal(t, []string{
			"0s PUT running 0", "75ms PATCH 0 0123456789", "3.075s PATCH 10 abc", "6.075s PATCH 4 456789abc",
		}, f.seen())
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, "0123456789abc", string(f.log))
	})
}

func TestALogThatIsNotWantedIsNotSent(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		f.onPatch = func(int, []byte, int64) (PatchResult, bool) { return PatchResult{State: PatchNotFound}, true }
		f.onPut = func(int, JobUpdate) (UpdateResult, bool) { return UpdateResult{}, true }
		trace.Commit(t.Context())
		writeText(t, trace, "text")
		time.Sleep(4 * time.Second)
		writeText(t, trace, "more")
		time.Sleep(2 * time.Second)
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, []string{"0s PUT running 0", "75ms PATCH 0 text", "5s PUT running 8", "6s PUT success 8"}, f.seen())
	})
}

func TestAJobWhoseLogCannotBeKeptIsReportedAsFailed(t *testing.T) {
	t.Setenv("TMPDIR", "/nonexistent")
	f := &fakeGitLab{began: time.Now()}
	_, err := newTrace(t.Context(), f, logrus.New(), TraceOptions{Runner: testRunner()})
	require.ErrorContains(t, err, "creating the file of the job log")
	require.Equal(t, "runner_system_failure", f.final.FailureReason)
	require.Equal(t, JobFailed, f.final.State)
}

func TestManyWritersAndOneLog(t *testing.T) {
	testTrace(t, TraceOptions{}, func(t *testing.T, f *fakeGitLab, trace *Trace) {
		trace.Commit(t.Context())
		var writers sync.WaitGroup
		for range 4 {
			writers.Go(func() {
				for range 100 {
					_, _ = trace.Write([]byte("line\n"))
					time.Sleep(70 * time.Millisecond)
				}
			})
		}
		writers.Wait()
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		require.Equal(t, strings.Repeat("line\n", 400), string(f.log))
		require.Equal(t, checksum(f.log), f.final.Checksum)
	})
}

func TestATraceOverHTTP(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) {
			if r.Method == http.MethodPatch {
				w.WriteHeader(http.StatusAccepted)
			}
		})
		trace, err := s.client.NewTrace(t.Context(), TraceOptions{Runner: testRunner(), Job: JobRef{ID: 7, Token: "job-token"}, Debug: true})
		require.NoError(t, err)
		require.Equal(t, Committed, trace.Commit(t.Context()))
		writeText(t, trace, "text")
		time.Sleep(time.Second)
		writeText(t, trace, "more")
		require.NoError(t, trace.Finish(t.Context(), Outcome{Success: true}))
		var requests []string
		for _, r := range s.all() {
			requests = append(requests, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Content-Range"))
		}
		require.Equal(t, []string{
			"PUT /sub/api/v4/jobs/7 ",
			"PATCH /sub/api/v4/jobs/7/trace?debug_trace=true 0-3",
			"PATCH /sub/api/v4/jobs/7/trace?debug_trace=true 4-7",
			"PUT /sub/api/v4/jobs/7 ",
		}, requests)
	})
}
