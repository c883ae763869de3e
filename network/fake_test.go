package network

import (
	"context"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// fakeGitLab is a reporter. It notes every request with its time, as "75ms PATCH 0 text" or
// "3s PUT running 5".
type fakeGitLab struct {
	began time.Time

	mu    sync.Mutex
	calls []string
	log   []byte
	final JobUpdate

	// onPut and onPatch decide instead of the well-behaved server if they return true.
	onPut   func(n int, update JobUpdate) (UpdateResult, bool)
	onPatch func(n int, content []byte, offset int64) (PatchResult, bool)
	puts    int
	patches int
	// lost is how many pieces of the log are never answered, until they are cut off. They are stored if lostArrive.
	lost       int
	lostArrive bool
}

func (f *fakeGitLab) UpdateJob(_ context.Context, _ *config.Runner, _ JobRef, update JobUpdate) UpdateResult {
	f.note("PUT %s %d", update.State, update.Size)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.puts++
	if f.onPut != nil {
		if result, decided := f.onPut(f.puts, update); decided {
			return result
		}
	}
	if update.State != JobRunning {
		f.final = update
		if update.Checksum != checksum(f.log) || update.Size != int64(len(f.log)) {
			return UpdateResult{State: UpdateLogMismatch}
		}
	}
	return UpdateResult{}
}

func (f *fakeGitLab) PatchTrace(ctx context.Context, _ *config.Runner, _ JobRef, content []byte, offset int64, _ bool) PatchResult {
	shown := string(content)
	if len(shown) > 20 {
		shown = fmt.Sprintf("(%d bytes)", len(shown))
	}
	f.note("PATCH %d %s", offset, shown)
	if f.loses(content) {
		<-ctx.Done()
		return PatchResult{State: PatchFailed, Offset: offset}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.patches++
	if f.onPatch != nil {
		if result, decided := f.onPatch(f.patches, content, offset); decided {
			return result
		}
	}
	if offset != int64(len(f.log)) {
		return PatchResult{State: PatchRangeMismatch, Offset: int64(len(f.log))}
	}
	f.log = append(f.log, content...)
	return PatchResult{Offset: int64(len(f.log))}
}

func (f *fakeGitLab) loses(content []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost--
	if f.lost >= 0 && f.lostArrive {
		f.log = append(f.log, content...)
	}
	return f.lost >= 0
}

func (f *fakeGitLab) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, time.Since(f.began).String()+" "+fmt.Sprintf(format, args...))
}

func (f *fakeGitLab) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

func checksum(data []byte) string { return fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE(data)) }

// testTrace runs a test with a trace in a bubble. The trace must be finished or discarded by the test.
func testTrace(t *testing.T, o TraceOptions, test func(t *testing.T, f *fakeGitLab, trace *Trace)) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	synctest.Test(t, func(t *testing.T) {
		f := &fakeGitLab{began: time.Now()}
		logger, _ := logtest.NewNullLogger()
		if o.Runner == nil {
			o.Runner = testRunner()
		}
		o.Job = JobRef{ID: 7, Token: "job-token"}
		trace, err := newTrace(t.Context(), f, logger, o)
		require.NoError(t, err)
		test(t, f, trace)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left, "the log is gone")
	})
}

func writeText(t *testing.T, trace *Trace, text string) {
	t.Helper()
	n, err := trace.Write([]byte(text))
	require.NoError(t, err)
	require.Equal(t, len(text), n)
}
