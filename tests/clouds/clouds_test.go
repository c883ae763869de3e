//go:build system

package clouds

import (
	"bufio"
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
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig/rigtest"
)

// patience bounds a test. It is no expectation.
const patience = 3 * time.Minute

func TestMain(m *testing.M) { rigtest.Main(m) }

// sky is a simulated cloud with a manager that works on it. The machines are called after the stage's group.
type sky struct {
	*rigtest.Stage
	address string
}

// open starts a simulated cloud, whose machines find the images of the examples at a mirror as they would at
// Docker Hub. It ends with the test, after the manager.
func open(t *testing.T, cloud string, args ...string) *sky {
	t.Helper()
	s := &sky{Stage: rigtest.New(t, rigtest.Options{Name: cloud, Patience: patience})}
	registry, err := s.StartRegistry()
	require.NoError(t, err)
	_, err = registry.Push(rigtest.Busybox, "library/busybox:latest")
	require.NoError(t, err)
	engine := fmt.Sprintf(`{"registry-mirrors": ["http://%s"], "insecure-registries": [%q]}`, registry.Address, registry.Address)
	simulator := exec.Command(s.Program("cloud-simulator"), append([]string{cloud, "--machines", s.Group, "--engine-config", engine}, args...)...)
	log, err := os.Create(filepath.Join(s.Dir, "simulator.log"))
	require.NoError(t, err)
	defer log.Close()
	simulator.Stderr = log
	stdout, err := simulator.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, simulator.Start(), "run make build")
	s.AfterManager(func() {
		_ = simulator.Process.Signal(syscall.SIGTERM)
		if err := simulator.Wait(); err != nil {
			t.Errorf("the simulator ended with %v", err)
		}
	})
	s.OnFailure(func() { t.Logf("the simulator's log:\n%s", read(t, log.Name())) })
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	require.NoError(t, err, "the simulator did not start: %s", read(t, log.Name()))
	var told struct{ Address string }
	require.NoError(t, json.Unmarshal(line, &told))
	s.address = told.Address
	return s
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// start runs a manager on a documented example. Pairs of texts replace what cannot be had here: addresses, paths
// and secrets. Each must stand in the example.
func (s *sky) start(example string, pairs ...string) {
	s.Helper()
	text := read(s, filepath.Join(s.Root(), "docs", "examples", example))
	pairs = append(pairs, `"https://gitlab.com"`, fmt.Sprintf("%q", s.Coordinator.URL()), "<token>", s.Coordinator.RunnerToken())
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(s, text, pairs[i], "the example has changed")
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	s.LaunchText(text, "--listen-address", "127.0.0.1:0")
}

// inject has something go wrong in the cloud.
func (s *sky) inject(fault string) {
	s.Helper()
	out, err := exec.CommandContext(s.Ctx, "curl", "--silent", "--fail", "--data", fault, s.address+"/_faults").CombinedOutput()
	require.NoError(s, err, "%s", out)
}

// clones hands out a job that clones the sample's repository, on the image of the example.
func (s *sky) clones(name string, script ...string) *coordinator.Job {
	s.Helper()
	job, err := s.Coordinator.Enqueue(coordinator.JobSpec{Name: name, Script: script})
	require.NoError(s, err)
	return job
}

// awaitRest waits until the manager has as many idle instances as the policy of the examples wants, and there are
// no other machines. Without jobs it then makes none and deletes none.
func (s *sky) awaitRest() {
	s.Helper()
	address := s.Listening()
	rests := func() bool {
		out, err := s.Runner(s.Ctx, "fleet", "status", "--json", "--address", address)
		require.NoError(s, err, out)
		var status manager.Status
		require.NoError(s, json.Unmarshal([]byte(out), &status), out)
		var instances []taskscaler.InstanceStatus
		for _, fleet := range status.Fleets {
			instances = append(instances, fleet.Instances...)
		}
		busy := slices.ContainsFunc(instances, func(i taskscaler.InstanceStatus) bool { return i.Condition != taskscaler.ConditionIdle })
		return len(status.Jobs) == 0 && len(instances) == idleCount && !busy && len(s.Fleet.Alive()) == idleCount
	}
	s.Eventually(patience, rests, "the fleet does not come to rest")
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
		jobs = append(jobs, s.clones(fmt.Sprintf("job %d", i), "test -d .git", "echo on $(hostname)"))
	}
	for _, job := range jobs {
		record := s.Ended(job)
		s.RequireState(record, coordinator.StateSuccess, "")
		instance := instanceOf(s, record)
		require.Empty(s, used[instance], "instance %s had two jobs", instance)
		used[instance] = record.Name
	}
	lost := s.clones("lost", "echo started", "sleep 100")
	require.NoError(s, lost.WaitTrace(s.Ctx, "started\n"))
	s.killMachineOf(lost)
	record := s.Ended(lost)
	s.RequireState(record, coordinator.StateFailed, "runner_system_failure")
	require.Contains(s, coordinator.PlainLog(record.Trace), "was lost during the job")
	// A cloud has forgotten an instance before its machine is gone.
	require.LessOrEqual(s, s.Fleet.Most(), 2*maxInstances)
	s.AllSucceed(s.clones("after"))
	s.examine()
}

// examine has the doctor look at the group that the manager works on, with a plugin process and a connection of its
// own, and requires that it changes nothing.
func (s *sky) examine() {
	s.Helper()
	s.awaitRest()
	before := s.Fleet.Lives()
	report, err := s.Runner(s.Ctx, "doctor", "--config", s.ConfigPath(), "--json")
	require.NoError(s, err, report)
	require.Contains(s, report, `"ok":true`)
	require.Equal(s, before, s.Fleet.Lives(), "the doctor changed the group")
	s.AllSucceed(s.clones("after the doctor"))
}

// killMachineOf kills the machine that a job runs on, known by the job's containers on it.
func (s *sky) killMachineOf(job *coordinator.Job) {
	s.Helper()
	filter := fmt.Sprintf("label=com.gitlab.gitlab-runner.job.id=%d", job.ID())
	for _, machine := range s.Fleet.Alive() {
		out, err := rig.InInstance(machine, "docker", "ps", "--quiet", "--filter", filter)
		if err == nil && out != "" {
			require.NoError(s, rig.KillInstance(machine))
			return
		}
	}
	require.Fail(s, "no machine has a container of the job")
}

// instanceOf is the instance that a job's log names.
func instanceOf(t testing.TB, record coordinator.Record) string {
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
