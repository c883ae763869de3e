//go:build system

package autoscaling

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

const (
	// patience bounds a test. It is no expectation: those have limits of their own.
	patience = 100 * time.Second
	// soon is within what people call "within seconds", on a busy machine.
	soon = 20 * time.Second

	busybox = "busybox:latest"
)

// TestMain refuses to run without what has to be built, so that no test can be taken for passed.
func TestMain(m *testing.M) {
	for _, path := range []string{"../../out/binaries/gitlab-runner", "../../out/plugins"} {
		if _, err := os.Stat(path); err != nil {
			fmt.Fprintf(os.Stderr, "system tests: %v; run make system\n", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// stage is a rig with groups of instances and at most one manager at a time.
type stage struct {
	*testing.T
	*rig.Rig
	// group is a name that no other test has, and fleet follows the instances of that group.
	group string
	fleet *rig.Fleet
	// fleets are those of all groups of the test.
	fleets []*rig.Fleet
	ctx    context.Context

	manager *rig.Manager
}

// newStage sets a test up. At its end the manager is stopped, the protocol must have been kept, and
// nothing may be left.
func newStage(t *testing.T, limit time.Duration) *stage {
	t.Helper()
	r, err := rig.New(rig.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	ctx, stop := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("the test's %s are over", limit))
	s := &stage{T: t, Rig: r, ctx: ctx, group: "scaling-" + strings.ToLower(rand.Text()[:8])}
	s.fleet = s.follow(s.group)
	t.Cleanup(func() {
		defer stop()
		s.conclude()
		require.NoError(t, r.Close())
	})
	return s
}

func (s *stage) follow(group string) *rig.Fleet {
	s.Helper()
	fleet, err := s.Follow(group)
	require.NoError(s, err)
	s.fleets = append(s.fleets, fleet)
	return fleet
}

// conclude is the end of every test.
func (s *stage) conclude() {
	if s.manager != nil {
		if s.Failed() {
			// Jobs that would be waited for may never end.
			_ = s.manager.Signal(syscall.SIGTERM)
		}
		if err := s.manager.Stop(s.ctx); err != nil {
			s.Error(err)
		}
	}
	left, err := s.Remains()
	if err != nil {
		s.Error(err)
	}
	if len(left) > 0 {
		s.Errorf("this was left behind:\n  %s", strings.Join(left, "\n  "))
	}
	if violations := s.Coordinator.Violations(); len(violations) > 0 {
		s.Errorf("the protocol was violated:\n  %s", strings.Join(violations, "\n  "))
	}
	if s.Failed() {
		s.show()
	}
	for _, fleet := range s.fleets {
		if err := fleet.Remove(); err != nil {
			s.Error(err)
		}
	}
	if err := s.RemoveCaches(); err != nil {
		s.Error(err)
	}
}

// show prints what tells why a test failed: the jobs that did not succeed, and the manager's log.
func (s *stage) show() {
	for _, job := range s.Coordinator.Jobs() {
		if record := job.Record(); record.State != coordinator.StateSuccess {
			s.Logf("job %d %q: %s %s %d\n%s", record.ID, record.Name, record.State, record.FailureReason, record.ExitCode, record.Trace)
		}
	}
	if s.manager != nil {
		s.Logf("the manager's log:\n%s", s.manager.LogText())
	}
}

// config is a configuration of at most one instance, unless c says otherwise, that goes with the manager.
func (s *stage) config(c rig.Config) rig.Config {
	c.Group = s.group
	c.DeleteOnShutdown = true
	c.Images = []string{busybox}
	c.MaxInstances = max(c.MaxInstances, 1)
	return c
}

// start writes a configuration and starts a manager on it.
func (s *stage) start(text string, args ...string) {
	s.Helper()
	require.NoError(s, s.WriteConfig(text))
	var err error
	s.manager, err = s.Start(args...)
	require.NoError(s, err)
}

// reload writes a configuration and waits until it is in force.
func (s *stage) reload(text string) {
	s.Helper()
	before, _ := s.manager.Entries(0)
	require.NoError(s, s.WriteConfig(text))
	require.NoError(s, s.manager.Signal(syscall.SIGHUP))
	number := 0
	_, err := s.manager.Await(s.ctx, func(e rig.Entry) bool {
		number++
		return number > len(before) && e.Text("msg") == "Configuration loaded"
	})
	require.NoError(s, err)
}

func (s *stage) stop() {
	s.Helper()
	require.NoError(s, s.manager.Stop(s.ctx))
	s.manager = nil
}

// enqueue hands out a job without sources.
func (s *stage) enqueue(spec coordinator.JobSpec) *coordinator.Job {
	s.Helper()
	spec.Variables = append(spec.Variables, coordinator.Variable{Key: "GIT_STRATEGY", Value: "none"})
	if spec.Image.Name == "" {
		spec.Image.Name = busybox
	}
	if spec.Script == nil {
		spec.Script = []string{"true"}
	}
	job, err := s.Coordinator.Enqueue(spec)
	require.NoError(s, err)
	return job
}

// ended waits for the end of a job and returns its record.
func (s *stage) ended(job *coordinator.Job) coordinator.Record {
	s.Helper()
	require.NoError(s, job.Wait(s.ctx))
	return job.Record()
}

// succeeds waits for the end of jobs that must succeed.
func (s *stage) succeeds(jobs ...*coordinator.Job) {
	s.Helper()
	for _, job := range jobs {
		record := s.ended(job)
		require.Equal(s, coordinator.StateSuccess, record.State, "job %d %q", record.ID, record.Name)
	}
}

// instanceOf is the instance that a job ran on, by its log, which may arrive after what the job did.
func (s *stage) instanceOf(job *coordinator.Job) string {
	s.Helper()
	require.NoError(s, job.WaitTrace(s.ctx, "Dialing instance "))
	var id string
	s.eventually(2*soon, func() bool {
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

// running enqueues a job that waits at the gate and returns when it is there.
func (s *stage) running(g *gate) *coordinator.Job {
	s.Helper()
	job := s.enqueue(coordinator.JobSpec{Script: []string{"echo started", g.wait}})
	require.NoError(s, job.WaitTrace(s.ctx, "started"))
	return job
}

// awaitAlive waits until so many instances of a fleet exist.
func (s *stage) awaitAlive(fleet *rig.Fleet, number int) {
	s.Helper()
	ctx, stop := context.WithTimeout(s.ctx, 2*soon)
	defer stop()
	require.NoError(s, fleet.Await(ctx, func([]rig.Life) bool { return len(fleet.Alive()) == number }))
}

// eventually polls until a condition holds. It is for what nobody tells of.
func (s *stage) eventually(limit time.Duration, condition func() bool, format string, args ...any) {
	s.Helper()
	require.Eventuallyf(s, condition, limit, 100*time.Millisecond, format, args...)
}

// awaitLog waits for an entry of the manager's log with the texts.
func (s *stage) awaitLog(texts ...string) rig.Entry {
	s.Helper()
	ctx, stop := context.WithTimeout(s.ctx, 2*soon)
	defer stop()
	entry, err := s.manager.Await(ctx, func(e rig.Entry) bool {
		whole := fmt.Sprint(e)
		for _, text := range texts {
			if !strings.Contains(whole, text) {
				return false
			}
		}
		return true
	})
	require.NoError(s, err, "no entry with %q", texts)
	return entry
}

// logged is how many entries of the manager's log have a message.
func (s *stage) logged(message string) int {
	entries, _ := s.manager.Entries(0)
	n := 0
	for _, entry := range entries {
		if entry.Text("msg") == message {
			n++
		}
	}
	return n
}

// inInstance runs a command in an instance and returns the lines it printed.
func (s *stage) inInstance(instance string, command ...string) []string {
	s.Helper()
	out, err := rig.InInstance(instance, command...)
	require.NoError(s, err)
	return strings.FieldsFunc(out, func(r rune) bool { return r == '\n' })
}

// plugins is how many plugin processes of this stage's managers run.
func (s *stage) plugins() int {
	s.Helper()
	processes, err := s.Processes()
	require.NoError(s, err)
	n := 0
	for _, program := range processes {
		if strings.HasPrefix(program, s.PluginPath()) {
			n++
		}
	}
	return n
}

// gate holds jobs until the test lets them go on.
type gate struct {
	// wait is a command of a job's script that returns when the gate is open.
	wait   string
	held   atomic.Int64
	opened chan struct{}
	once   sync.Once
}

// newGate makes a gate that is reached from the jobs' containers.
func (s *stage) newGate() *gate {
	s.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(s.Gateway, "0"))
	require.NoError(s, err)
	g := &gate{opened: make(chan struct{})}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.held.Add(1)
		defer g.held.Add(-1)
		select {
		case <-g.opened:
			_, _ = w.Write([]byte("the gate is open\n"))
		case <-r.Context().Done():
		}
	}))
	require.NoError(s, server.Listener.Close())
	server.Listener = listener
	server.Start()
	s.Cleanup(server.Close)
	s.Cleanup(g.open)
	g.wait = "wget -q -O - " + server.URL
	return g
}

// open lets all go on, now and later.
func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }
