//go:build system

package system

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

const (
	// patience bounds a test. It is no expectation: those have limits of their own.
	patience = 4 * time.Minute
	// soon is within what people call "within seconds".
	soon = 10 * time.Second
)

// stage is a rig with a group of instances and at most one manager at a time.
type stage struct {
	*testing.T
	*rig.Rig
	// group is the name of the group of instances, of this test only.
	group string
	fleet *rig.Fleet
	ctx   context.Context

	manager *rig.Manager
}

// newStage sets a test up. At the end of the test the manager is stopped, the protocol must have been
// kept, and nothing may be left.
func newStage(t *testing.T, options coordinator.Config) *stage {
	t.Helper()
	r, err := rig.New(rig.Options{Dir: t.TempDir(), Coordinator: options})
	require.NoError(t, err)
	ctx, stop := context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("the test's %s are over", patience))
	s := &stage{T: t, Rig: r, ctx: ctx, group: "system-" + strings.ToLower(rand.Text()[:8])}
	s.fleet, err = r.Follow(s.group)
	require.NoError(t, err)
	t.Cleanup(func() {
		defer stop()
		s.conclude()
		require.NoError(t, r.Close())
	})
	return s
}

// in is the stage as seen by a part of its test.
func (s *stage) in(t *testing.T) *stage {
	part := *s
	part.T = t
	return &part
}

// conclude is the end of every test.
func (s *stage) conclude() {
	if s.manager != nil {
		if s.Failed() {
			// The manager would wait for jobs that may never end.
			for _, job := range s.Coordinator.Jobs() {
				job.Cancel(false)
			}
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
	s.requireSecrecy()
	if violations := s.Coordinator.Violations(); len(violations) > 0 {
		s.Errorf("the protocol was violated:\n  %s", strings.Join(violations, "\n  "))
	}
	if s.Failed() {
		s.show()
	}
	if err := s.fleet.Remove(); err != nil {
		s.Error(err)
	}
	if err := s.RemoveCaches(); err != nil {
		s.Error(err)
	}
}

// requireSecrecy looks for tokens in the manager's log.
func (s *stage) requireSecrecy() {
	if s.manager == nil {
		return
	}
	log := s.manager.LogText()
	if strings.Contains(log, s.Coordinator.RunnerToken()) {
		s.Error("the manager's log has the runner's token")
	}
	for _, job := range s.Coordinator.Jobs() {
		if token := job.Token(); token != "" && strings.Contains(log, token) {
			s.Errorf("the manager's log has the token of job %d", job.ID())
		}
	}
}

// show prints what tells why a test failed.
func (s *stage) show() {
	for _, job := range s.Coordinator.Jobs() {
		record := job.Record()
		s.Logf("job %d %q: %s %s %d\n%s", record.ID, record.Name, record.State, record.FailureReason, record.ExitCode, record.Trace)
	}
	if s.manager != nil {
		s.Logf("the manager's log:\n%s", s.manager.LogText())
	}
}

// autoscaled is a configuration of instances that come at once and go with the manager.
func (s *stage) autoscaled(c rig.Config) rig.Config {
	c.Group = s.group
	c.DeleteOnShutdown = true
	if c.Images == nil {
		c.Images = []string{busybox}
	}
	if c.MaxInstances == 0 {
		c.MaxInstances = 1
	}
	return c
}

// busybox is the image of most jobs.
const busybox = "busybox:latest"

// start writes the configuration and starts a manager on it.
func (s *stage) start(c rig.Config, args ...string) *rig.Manager {
	s.Helper()
	require.NoError(s, s.WriteConfig(s.Text(c)))
	return s.run(args...)
}

// run starts a manager on the configuration that is there.
func (s *stage) run(args ...string) *rig.Manager {
	s.Helper()
	var err error
	s.manager, err = s.Start(args...)
	require.NoError(s, err)
	return s.manager
}

// stop ends the manager gracefully; that must succeed.
func (s *stage) stop() {
	s.Helper()
	require.NoError(s, s.manager.Stop(s.ctx))
	s.manager = nil
}

// enqueue hands out a job without sources.
func (s *stage) enqueue(spec coordinator.JobSpec) *coordinator.Job {
	s.Helper()
	spec.Variables = append(spec.Variables, coordinator.Variable{Key: "GIT_STRATEGY", Value: "none"})
	return s.enqueueWithSources(spec)
}

func (s *stage) enqueueWithSources(spec coordinator.JobSpec) *coordinator.Job {
	s.Helper()
	if spec.Image.Name == "" {
		spec.Image.Name = busybox
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

// succeeds runs one job that must succeed.
func (s *stage) succeeds(spec coordinator.JobSpec) coordinator.Record {
	s.Helper()
	if spec.Script == nil {
		spec.Script = []string{"true"}
	}
	record := s.ended(s.enqueue(spec))
	s.requireState(record, coordinator.StateSuccess, "")
	return record
}

// requireState requires how a job ended.
func (s *stage) requireState(record coordinator.Record, state coordinator.State, reason string) {
	s.Helper()
	require.Equal(s, state, record.State, "job %d %q", record.ID, record.Name)
	require.Equal(s, reason, record.FailureReason, "job %d %q", record.ID, record.Name)
}

// instance waits for an instance to exist, and returns its name.
func (s *stage) instance() string {
	s.Helper()
	var name string
	require.NoError(s, s.fleet.Await(s.ctx, func(lives []rig.Life) bool {
		for _, life := range lives {
			if life.Destroyed.IsZero() && life.Address != "" {
				name = life.Name
			}
		}
		return name != ""
	}))
	return name
}

// inInstance runs a command in an instance and returns the lines it printed.
func (s *stage) inInstance(instance string, command ...string) []string {
	s.Helper()
	out, err := rig.InInstance(instance, command...)
	require.NoError(s, err)
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

// The label of everything that is made for a job.
const jobLabel = "com.gitlab.gitlab-runner.job.id"

// objects are the containers, volumes and networks on an instance that have nothing to do with the
// engine itself, but for caches that are kept for later jobs. A filter restricts them.
func (s *stage) objects(instance string, filter ...string) []string {
	s.Helper()
	list := func(args []string, filters ...string) []string {
		args = append([]string{"docker"}, args...)
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		return s.inInstance(instance, args...)
	}
	volumes := []string{"volume", "ls", "--format", "volume {{.Name}}"}
	found := list([]string{"ps", "--all", "--format", "container {{.Names}}"}, filter...)
	found = append(found, list([]string{"network", "ls", "--format", "network {{.Name}}"}, append(slices.Clone(filter), "type=custom")...)...)
	kept := list(volumes, "label=com.gitlab.gitlab-runner.reusable=true")
	for _, volume := range list(volumes, filter...) {
		if !slices.Contains(kept, volume) {
			found = append(found, volume)
		}
	}
	return found
}

// eventually polls until a condition holds. It is for what nobody tells of.
func (s *stage) eventually(limit time.Duration, condition func() bool, format string, args ...any) {
	s.Helper()
	require.Eventuallyf(s, condition, limit, 100*time.Millisecond, format, args...)
}

// awaitLog waits for an entry of the manager's log with a text in one of the fields.
func (s *stage) awaitLog(level string, texts ...string) rig.Entry {
	s.Helper()
	entry, err := s.manager.Await(s.ctx, func(e rig.Entry) bool {
		if level != "" && e.Text("level") != level {
			return false
		}
		whole := fmt.Sprint(e)
		for _, text := range texts {
			if !strings.Contains(whole, text) {
				return false
			}
		}
		return true
	})
	require.NoError(s, err, "no %s entry with %q", level, texts)
	return entry
}

// file writes a file beside the configuration and returns its path.
func (s *stage) file(name, text string, mode os.FileMode) string {
	s.Helper()
	path := s.Dir + "/" + name
	require.NoError(s, os.WriteFile(path, []byte(text), mode))
	return path
}

// plain is a job log as a reader sees it.
func plain(record coordinator.Record) string { return coordinator.PlainLog(record.Trace) }
