package network

import (
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestUpdateJobVerdicts(t *testing.T) {
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	for name, test := range map[string]struct {
		status int
		header http.Header
		want   UpdateResult
	}{
		"ok":                         {200, header("Job-Status", "running"), UpdateResult{State: UpdateSucceeded}},
		"accepted":                   {202, header("X-GitLab-Trace-Update-Interval", "4"), UpdateResult{State: UpdateAccepted, Interval: 4 * time.Second}},
		"log mismatch":               {412, nil, UpdateResult{State: UpdateLogMismatch}},
		"not found":                  {404, nil, UpdateResult{State: UpdateAborted}},
		"forbidden":                  {403, nil, UpdateResult{State: UpdateAborted}},
		"canceled":                   {200, header("Job-Status", "canceled"), UpdateResult{State: UpdateAborted}},
		"failed":                     {202, header("Job-Status", "failed"), UpdateResult{State: UpdateAborted}},
		"canceling":                  {200, header("Job-Status", "canceling"), UpdateResult{State: UpdateSucceeded, CancelRequested: true}},
		"conflict":                   {409, nil, UpdateResult{State: UpdateFailed}},
		"bad request":                {400, nil, UpdateResult{State: UpdateFailed}},
		"trouble":                    {500, nil, UpdateResult{State: UpdateFailed}},
		"interval is capped":         {200, header("X-GitLab-Trace-Update-Interval", "100000"), UpdateResult{Interval: 15 * time.Minute}},
		"interval that is no number": {200, header("X-GitLab-Trace-Update-Interval", "soon"), UpdateResult{}},
		"interval that is negative":  {200, header("X-GitLab-Trace-Update-Interval", "-3"), UpdateResult{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, func(w http.ResponseWriter, r received) {
					for key, values := range test.header {
						w.Header()[key] = values
					}
					w.WriteHeader(test.status)
				})
				result := s.client.UpdateJob(t.Context(), testRunner(), JobRef{ID: 7, Token: "job-token"},
					JobUpdate{State: JobFailed, FailureReason: "script_failure", Checksum: "crc32:0f3a9c11", Size: 48213, ExitCode: math.MaxUint32 - 2})
				require.Equal(t, test.want, result)
				r := s.all()[0]
				require.Equal(t, "PUT /sub/api/v4/jobs/7", r.Method+" "+r.URL.Path)
				require.Equal(t, "job-token", r.Header.Get("JOB-TOKEN"))
				body := decoded(t, r.body)
				delete(body, "info")
				require.Equal(t, map[string]any{
					"token": "job-token", "state": "failed", "failure_reason": "script_failure", "checksum": "crc32:0f3a9c11",
					"output": map[string]any{"checksum": "crc32:0f3a9c11", "bytesize": 48213.0}, "exit_code": -3.0,
				}, body)
			})
		})
	}
}

func TestUpdateJobLeavesOutWhatIsZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) {})
		s.client.UpdateJob(t.Context(), testRunner(), JobRef{ID: 7, Token: "job-token"}, JobUpdate{Info: testInfo(s), State: JobRunning})
		body := decoded(t, s.all()[0].body)
		require.Equal(t, "gitlab-runner", body["info"].(map[string]any)["name"])
		delete(body, "info")
		require.Equal(t, map[string]any{"token": "job-token", "state": "running", "output": map[string]any{}}, body)
	})
}

func TestASilentServerDoesNotHoldAnUpdateForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(w http.ResponseWriter, r received) { <-r.Context().Done() })
		began := time.Now()
		require.Equal(t, UpdateFailed, s.client.UpdateJob(t.Context(), testRunner(), JobRef{ID: 7}, JobUpdate{}).State)
		require.Equal(t, updateTimeout, time.Since(began))
	})
}

func TestPatchTraceVerdicts(t *testing.T) {
	for name, test := range map[string]struct {
		status  int
		header  map[string]string
		want    PatchResult
		message string
	}{
		"ok": {202, map[string]string{"Range": "0-15", "Job-Status": "running", "X-GitLab-Trace-Update-Interval": "60"},
			PatchResult{State: PatchSucceeded, Offset: 15, Interval: time.Minute}, "Appending trace to coordinator... ok"},
		"canceling": {202, map[string]string{"Job-Status": "canceling"},
			PatchResult{State: PatchSucceeded, Offset: 15, CancelRequested: true}, "Appending trace to coordinator... ok"},
		"canceled": {202, map[string]string{"Job-Status": "canceled"},
			PatchResult{State: PatchAborted, Offset: 5}, "Appending trace to coordinator... aborted"},
		"forbidden": {403, nil, PatchResult{State: PatchAborted, Offset: 5}, "Appending trace to coordinator... aborted"},
		"not found": {404, nil, PatchResult{State: PatchNotFound, Offset: 5}, "Appending trace to coordinator... not-found"},
		"range mismatch": {416, map[string]string{"Range": "0-3"},
			PatchResult{State: PatchRangeMismatch, Offset: 3}, "Appending trace to coordinator... range mismatch"},
		"range mismatch without a range": {416, nil,
			PatchResult{State: PatchRangeMismatch}, "Appending trace to coordinator... range mismatch"},
		"bad request": {400, nil, PatchResult{State: PatchFailed, Offset: 5}, "Appending trace to coordinator... failed"},
		"trouble":     {502, nil, PatchResult{State: PatchFailed, Offset: 5}, "Appending trace to coordinator... failed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newTestServer(t, func(w http.ResponseWriter, r received) {
					for key, value := range test.header {
						w.Header().Set(key, value)
					}
					w.WriteHeader(test.status)
				})
				result := s.client.PatchTrace(t.Context(), testRunner(), JobRef{ID: 7, Token: "job-token"}, []byte("0123456789"), 5, true)
				require.Equal(t, test.want, result)
				require.Equal(t, test.message, s.logs.LastEntry().Message)
				for _, r := range s.all() {
					require.Equal(t, "PATCH /sub/api/v4/jobs/7/trace?debug_trace=true", r.Method+" "+r.URL.RequestURI())
					require.Equal(t, "job-token", r.Header.Get("JOB-TOKEN"))
					require.Equal(t, "5-14", r.Header.Get("Content-Range"))
					require.Equal(t, "text/plain", r.Header.Get("Content-Type"))
					require.EqualValues(t, 10, r.ContentLength)
					require.Equal(t, "0123456789", string(r.body), "also when it is repeated")
				}
			})
		})
	}
}

func TestAnEmptyPieceIsNotSent(t *testing.T) {
	c := New(Options{})
	require.Equal(t, PatchResult{State: PatchSucceeded, Offset: 5}, c.PatchTrace(t.Context(), testRunner(), JobRef{ID: 7}, nil, 5, false))
}

func FuzzStoredSize(f *testing.F) {
	for _, seed := range []string{"0-15", "0-", "-5", "", "15", "0-15-20", "a-b", "0--3", "0-99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		require.GreaterOrEqual(t, storedSize(header), int64(0))
	})
}

func TestStoredSize(t *testing.T) {
	for header, want := range map[string]int64{
		"0-15": 15, "0-0": 0, "": 0, "15": 0, "0-": 0, "0-x": 0, "0--3": 0, "0-1-2": 0, "0-99999999999999999999": 0,
	} {
		require.Equal(t, want, storedSize(header), header)
	}
}
