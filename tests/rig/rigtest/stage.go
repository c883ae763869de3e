// Package rigtest sets a rig up for one test and takes it down after it. Its Stage has what every suite of
// whole-system tests needs: a manager at a time, jobs for it, a gate that holds jobs, and the group of instances of
// the test. A suite embeds a Stage and adds what is its own.
//
// It guarantees that at the end of the test the manager has ended well, the protocol was kept, no token stands in
// the log of any manager, and nothing is left that the rig's programs made. What a failed test needs to be
// understood is printed, and what it left is removed.
//
// Only tests may import it.
package rigtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// Main runs the tests of a package. It refuses to without what has to be built, so that no test can be taken for
// passed.
func Main(m *testing.M) {
	if err := rig.CheckBuilt(); err != nil {
		fmt.Fprintf(os.Stderr, "system tests: %v; run make system\n", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// Options say what a stage is like. The zero value of a field selects what its comment says.
type Options struct {
	// Name begins the name of the test's group of instances. It is required.
	Name string
	// Patience bounds the test, and is required. It is no expectation: those have limits of their own.
	Patience time.Duration
	// LogPatience bounds the wait for an entry of the manager's log; it is Patience unless it is named.
	LogPatience time.Duration
	// Coordinator says how the stand-in for GitLab behaves.
	Coordinator coordinator.Config
}

// Stage is a rig with a group of instances and at most one manager at a time, for one test. Only the test's own
// goroutine may call its methods.
type Stage struct {
	testing.TB
	*rig.Rig
	// Group is the name of the group of instances, of this test only, and Fleet follows them.
	Group string
	Fleet *rig.Fleet
	// Ctx ends when the test's patience does. Unlike the test's own context it is there for its clean-up.
	Ctx context.Context
	// Manager is the one that was started last, nil after it was stopped.
	Manager *rig.Manager

	logLimit time.Duration
	// managers are all that were started.
	managers     []*rig.Manager
	afterManager []func()
	onFailure    []func()
}

// New sets a test up.
func New(t testing.TB, o Options) *Stage {
	t.Helper()
	r, err := rig.New(rig.Options{Dir: t.TempDir(), Coordinator: o.Coordinator})
	require.NoError(t, err)
	ctx, stop := context.WithTimeoutCause(context.Background(), o.Patience, fmt.Errorf("the test's %s are over", o.Patience))
	s := &Stage{TB: t, Rig: r, Ctx: ctx, Group: o.Name + "-" + strings.ToLower(rand.Text()[:8]), logLimit: o.LogPatience}
	if s.logLimit == 0 {
		s.logLimit = o.Patience
	}
	t.Cleanup(func() {
		defer stop()
		s.conclude()
		require.NoError(t, r.Close())
	})
	s.Fleet, err = r.Follow(s.Group)
	require.NoError(t, err)
	return s
}

// In is the stage as seen by a part of its test, which starts no manager of its own.
func (s *Stage) In(t testing.TB) *Stage {
	part := *s
	part.TB = t
	return &part
}

// AfterManager has something done at the end of the test when the manager has ended, which may need what it ends, and
// before anybody looks for what is left.
func (s *Stage) AfterManager(do func()) { s.afterManager = append(s.afterManager, do) }

// OnFailure has something done at the end of a failed test: to print more of what tells why.
func (s *Stage) OnFailure(do func()) { s.onFailure = append(s.onFailure, do) }

// conclude is the end of every test.
func (s *Stage) conclude() {
	s.endManager()
	for _, do := range s.afterManager {
		do()
	}
	left, err := s.Remains()
	if err != nil {
		s.Error(err)
	}
	if len(left) > 0 {
		s.Errorf("this was left behind:\n  %s", strings.Join(left, "\n  "))
	}
	s.requireSecrecy()
	if violations := s.Coordinator.Violations(); len(violations) > 0 {
		s.Errorf("the protocol was violated:\n  %s", strings.Join(violations, "\n  "))
	}
	if s.Failed() {
		s.show()
	}
	if err := s.RemoveInstances(); err != nil {
		s.Error(err)
	}
	if err := s.RemoveCaches(); err != nil {
		s.Error(err)
	}
}

// clearingUp is how long the manager of a failed test may take to end.
const clearingUp = time.Minute

// endManager stops the manager if there is one.
func (s *Stage) endManager() {
	if s.Manager == nil {
		return
	}
	ctx := s.Ctx
	if s.Failed() {
		// The jobs that it would wait for may never end, and the test's patience may be at its end.
		_ = s.Manager.Signal(syscall.SIGTERM)
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(context.Background(), clearingUp, fmt.Errorf("the %s after a failure are over", clearingUp))
		defer stop()
	}
	if err := s.Manager.Stop(ctx); err != nil {
		s.Error(err)
	}
}

// requireSecrecy looks for tokens in the managers' logs.
func (s *Stage) requireSecrecy() {
	tokens := map[string]string{"token of the runner that was there first": s.Coordinator.RunnerToken()}
	for _, runner := range s.Coordinator.Runners() {
		tokens[fmt.Sprintf("token of runner %d", runner.ID)] = runner.Token
	}
	for _, job := range s.Coordinator.Jobs() {
		// A job that was not handed out has none.
		if token := job.Token(); token != "" {
			tokens[fmt.Sprintf("token of job %d", job.ID())] = token
		}
	}
	for _, manager := range s.managers {
		log := manager.LogText()
		for what, token := range tokens {
			if strings.Contains(log, token) {
				s.Errorf("the manager's log has the %s", what)
			}
		}
	}
}

// fewJobs is up to how many jobs are shown even if they succeeded.
const fewJobs = 20

// show prints what tells why a test failed.
func (s *Stage) show() {
	jobs := s.Coordinator.Jobs()
	for _, job := range jobs {
		record := job.Record()
		if record.State == coordinator.StateSuccess && len(jobs) > fewJobs {
			continue
		}
		s.Logf("job %d %q: %s %s %d\n%s", record.ID, record.Name, record.State, record.FailureReason, record.ExitCode, record.Trace)
	}
	for i, manager := range s.managers {
		s.Logf("the log of manager %d of %d:\n%s", i+1, len(s.managers), manager.LogText())
	}
	for _, do := range s.onFailure {
		do()
	}
}

// poll is how long passes between two looks at what nobody tells of.
const poll = 100 * time.Millisecond

// Eventually looks until a condition holds, which must be seen within the limit. It is for what nobody tells of. The
// test's own goroutine looks: the condition may require what must hold at every look.
func (s *Stage) Eventually(limit time.Duration, condition func() bool, format string, args ...any) {
	s.Helper()
	over, stop := context.WithTimeoutCause(s.Ctx, limit, fmt.Errorf("not within %s", limit))
	defer stop()
	for {
		holds := condition()
		if over.Err() != nil {
			require.NoErrorf(s, context.Cause(over), format, args...)
		}
		if holds {
			return
		}
		select {
		case <-time.After(poll):
		case <-over.Done():
		}
	}
}
