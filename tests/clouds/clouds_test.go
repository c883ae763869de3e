//go:build system

package clouds

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/taskscaler"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// patience bounds a test. It is no expectation.
const patience = 3 * time.Minute

// sky is a simulated cloud with a manager that works on it.
type sky struct {
	*testing.T
	*rig.Rig
	ctx context.Context
	// fleet follows the machines, which have names of this test only.
	fleet     *rig.Fleet
	address   string
	simulator *exec.Cmd
	manager   *rig.Manager
}

// open starts a simulated cloud, whose machines find the images of the examples at a mirror as they would at
// Docker Hub. At the end of the test nothing may be left.
func open(t *testing.T, cloud string, args ...string) *sky {
	t.Helper()
	r, err := rig.New(rig.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	ctx, stop := context.WithTimeoutCause(context.Background(), patience, fmt.Errorf("the test's %s are over", patience))
	s := &sky{T: t, Rig: r, ctx: ctx}
	machines := cloud + "-" + strings.ToLower(rand.Text()[:8])
	s.fleet, err = r.Follow(machines)
	require.NoError(t, err)
	t.Cleanup(func() {
		defer stop()
		s.conclude()
		require.NoError(t, r.Close())
	})
	registry, err := r.StartRegistry()
	require.NoError(t, err)
	_, err = registry.Push("busybox:latest", "library/busybox:latest")
	require.NoError(t, err)
	engine := fmt.Sprintf(`{"registry-mirrors": ["http://%s"], "insecure-registries": [%q]}`, registry.Address, registry.Address)
	s.simulator = exec.Command(r.Program("cloud-simulator"), append([]string{cloud, "--machines", machines, "--engine-config", engine}, args...)...)
	log, err := os.Create(filepath.Join(r.Dir, "simulator.log"))
	require.NoError(t, err)
	defer log.Close()
	s.simulator.Stderr = log
	stdout, err := s.simulator.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, s.simulator.Start(), "run make build")
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	require.NoError(t, err, "the simulator did not start: %s", read(t, log.Name()))
	var told struct{ Address string }
	require.NoError(t, json.Unmarshal(line, &told))
	s.address = told.Address
	return s
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// conclude ends the manager and the cloud, and looks for what is left.
func (s *sky) conclude() {
	if s.manager != nil {
		if s.Failed() {
			_ = s.manager.Signal(syscall.SIGTERM)
		}
		if err := s.manager.Stop(s.ctx); err != nil {
			s.Error(err)
		}
	}
	if s.simulator != nil && s.simulator.Process != nil {
		_ = s.simulator.Process.Signal(syscall.SIGTERM)
		if err := s.simulator.Wait(); err != nil {
			s.Errorf("the simulator ended with %v", err)
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
		for _, job := range s.Coordinator.Jobs() {
			record := job.Record()
			s.Logf("job %d %q: %s %s\n%s", record.ID, record.Name, record.State, record.FailureReason, record.Trace)
		}
		if s.manager != nil {
			s.Logf("the manager's log:\n%s", s.manager.LogText())
		}
		s.Logf("the simulator's log:\n%s", read(s.T, filepath.Join(s.Dir, "simulator.log")))
	}
	if err := s.fleet.Remove(); err != nil {
		s.Error(err)
	}
}

// start runs a manager on a documented example. Pairs of texts replace what cannot be had here: addresses, paths
// and secrets. Each must stand in the example.
func (s *sky) start(example string, pairs ...string) {
	s.Helper()
	text := read(s.T, filepath.Join(s.Root(), "docs", "examples", example))
	pairs = append(pairs, `"https://gitlab.com"`, fmt.Sprintf("%q", s.Coordinator.URL()), "<token>", s.Coordinator.RunnerToken())
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(s, text, pairs[i], "the example has changed")
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	require.NoError(s, s.WriteConfig(text))
	var err error
	s.manager, err = s.Start("--listen-address", "127.0.0.1:0")
	require.NoError(s, err)
}

// inject has something go wrong in the cloud.
func (s *sky) inject(fault string) {
	s.Helper()
	out, err := exec.CommandContext(s.ctx, "curl", "--silent", "--fail", "--data", fault, s.address+"/_faults").CombinedOutput()
	require.NoError(s, err, "%s", out)
}

// enqueue hands out a job that clones the sample's repository.
func (s *sky) enqueue(name string, script ...string) *coordinator.Job {
	s.Helper()
	job, err := s.Coordinator.Enqueue(coordinator.JobSpec{Name: name, Script: script})
	require.NoError(s, err)
	return job
}

// ends waits for the end of a job and requires how it ended.
func (s *sky) ends(job *coordinator.Job, state coordinator.State, reason string) coordinator.Record {
	s.Helper()
	require.NoError(s, job.Wait(s.ctx))
	record := job.Record()
	require.Equal(s, state, record.State, "job %q", record.Name)
	require.Equal(s, reason, record.FailureReason, "job %q", record.Name)
	return record
}

// awaitRest waits until the manager has as many idle instances as the policy of the examples wants, and there are
// no other machines. Without jobs it then makes none and deletes none.
func (s *sky) awaitRest() {
	s.Helper()
	listening, err := s.manager.Await(s.ctx, func(e rig.Entry) bool { return e.Text("msg") == "Metrics server listening" })
	require.NoError(s, err)
	rests := func() bool {
		out, err := s.Runner(s.ctx, "fleet", "status", "--json", "--address", listening.Text("address"))
		require.NoError(s, err, out)
		var status manager.Status
		require.NoError(s, json.Unmarshal([]byte(out), &status), out)
		var instances []taskscaler.InstanceStatus
		for _, fleet := range status.Fleets {
			instances = append(instances, fleet.Instances...)
		}
		busy := slices.ContainsFunc(instances, func(i taskscaler.InstanceStatus) bool { return i.Condition != taskscaler.ConditionIdle })
		return len(status.Jobs) == 0 && len(instances) == idleCount && !busy && len(s.fleet.Alive()) == idleCount
	}
	for !rests() {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-s.ctx.Done():
			require.NoError(s, context.Cause(s.ctx), "the fleet does not come to rest")
		}
	}
}

// What the examples say: five idle instances, ten at most, one job each.
const (
	idleCount    = 5
	maxInstances = 10
)

// runExample is what is required of each of the documented examples: jobs run, each on an instance of its own;
// what goes wrong in the cloud meanwhile costs none of them; an instance that is lost costs the one job on it.
func (s *sky) runExample(throttled string) {
	s.Helper()
	s.awaitRest()
	s.inject(throttled)
	used := map[string]string{}
	var jobs []*coordinator.Job
	for i := range 6 {
		jobs = append(jobs, s.enqueue(fmt.Sprintf("job %d", i), "test -d .git", "echo on $(hostname)"))
	}
	for _, job := range jobs {
		record := s.ends(job, coordinator.StateSuccess, "")
		instance := instanceOf(s.T, record)
		require.Empty(s, used[instance], "instance %s had two jobs", instance)
		used[instance] = record.Name
	}
	lost := s.enqueue("lost", "echo started", "sleep 100")
	require.NoError(s, lost.WaitTrace(s.ctx, "started\n"))
	s.killMachineOf(lost)
	record := s.ends(lost, coordinator.StateFailed, "runner_system_failure")
	require.Contains(s, coordinator.PlainLog(record.Trace), "was lost during the job")
	// A cloud has forgotten an instance before its machine is gone.
	require.LessOrEqual(s, s.fleet.Most(), 2*maxInstances)
	s.ends(s.enqueue("after"), coordinator.StateSuccess, "")
	s.examine()
}

// examine has the doctor look at the group that the manager works on, with a plugin process and a connection of its
// own, and requires that it changes nothing.
func (s *sky) examine() {
	s.Helper()
	s.awaitRest()
	before := s.fleet.Lives()
	report, err := s.Runner(s.ctx, "doctor", "--config", s.ConfigPath(), "--json")
	require.NoError(s, err, report)
	require.Contains(s, report, `"ok":true`)
	require.Equal(s, before, s.fleet.Lives(), "the doctor changed the group")
	s.ends(s.enqueue("after the doctor"), coordinator.StateSuccess, "")
}

// killMachineOf kills the machine that a job runs on, known by the job's containers on it.
func (s *sky) killMachineOf(job *coordinator.Job) {
	s.Helper()
	filter := fmt.Sprintf("label=com.gitlab.gitlab-runner.job.id=%d", job.ID())
	for _, machine := range s.fleet.Alive() {
		out, err := rig.InInstance(machine, "docker", "ps", "--quiet", "--filter", filter)
		if err == nil && out != "" {
			require.NoError(s, rig.KillInstance(machine))
			return
		}
	}
	require.Fail(s, "no machine has a container of the job")
}

// instanceOf is the instance that a job's log names.
func instanceOf(t *testing.T, record coordinator.Record) string {
	t.Helper()
	for line := range strings.Lines(coordinator.PlainLog(record.Trace)) {
		if rest, ok := strings.CutPrefix(line, "Instance "); ok {
			id, _, _ := strings.Cut(rest, " ")
			return id
		}
	}
	require.Fail(t, "the log names no instance", "%s", record.Trace)
	return ""
}
