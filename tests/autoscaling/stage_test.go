//go:build system

package autoscaling

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig/rigtest"
)

const (
	// patience bounds a test. It is no expectation: those have limits of their own.
	patience = 100 * time.Second
	// soon is within what people call "within seconds", on a busy machine.
	soon = 20 * time.Second
)

func TestMain(m *testing.M) { rigtest.Main(m) }

// stage is where a test of this package runs.
type stage struct{ *rigtest.Stage }

// newStage sets a test up; see rigtest for what is required at its end.
func newStage(t *testing.T, limit time.Duration) *stage {
	t.Helper()
	return &stage{rigtest.New(t, rigtest.Options{Name: "scaling", Patience: limit, LogPatience: 2 * soon})}
}

// instanceOf is the instance that a job was given, by its log, which may arrive after what the job did.
func (s *stage) instanceOf(job *coordinator.Job) string {
	s.Helper()
	require.NoError(s, job.WaitTrace(s.Ctx, "Dialing instance "))
	var id string
	s.Eventually(2*soon, func() bool {
		for line := range strings.Lines(coordinator.PlainLog(job.Trace())) {
			// The line may be on its way still.
			if _, rest, ok := strings.Cut(line, "Dialing instance "); ok && strings.HasSuffix(line, "\n") {
				id, _, _ = strings.Cut(strings.TrimSpace(rest), ".")
			}
			if id != "" {
				return true
			}
		}
		return false
	}, "no instance is named in the log of job %d", job.ID())
	return id
}

// awaitAlive waits until so many instances of the test's group exist.
func (s *stage) awaitAlive(number int) {
	s.Helper()
	ctx, stop := context.WithTimeout(s.Ctx, 2*soon)
	defer stop()
	require.NoError(s, s.Fleet.Await(ctx, func([]rig.Life) bool { return len(s.Fleet.Alive()) == number }))
}
