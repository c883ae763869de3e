//go:build system

package autoscaling

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestJobsOnAKilledInstanceFailInOneLineAndTheirSlotsComeBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.newGate()
	s.start(s.Text(s.config(rig.Config{IdleCount: 2, Capacity: 2})))
	jobs := []*coordinator.Job{s.running(gate), s.running(gate)}
	instance := s.instanceOf(jobs[0])
	killed := time.Now()
	require.NoError(t, rig.KillInstance(instance))
	for _, job := range jobs {
		record := s.ended(job)
		require.Equal(t, "runner_system_failure", record.FailureReason)
		require.Less(t, record.Times.Finished.Sub(killed), 5*time.Second)
		log := coordinator.PlainLog(record.Trace)
		at := strings.Index(log, "ERROR: Job failed (system failure): ")
		require.Positive(t, at, log)
		line, _, _ := strings.Cut(log[at:], "\n")
		require.Contains(t, line, "instance "+instance+" was lost during the job: instance unexpectedly removed")
		require.Contains(t, line, "ssh tunnel: ")
		require.Contains(t, line, "look for what removed or stopped it")
	}
	s.awaitLog("error", "instance unexpectedly removed", instance)
	gate.open()
	s.succeeds(s.enqueue(coordinator.JobSpec{}), s.enqueue(coordinator.JobSpec{}))
}

func TestAnIdleInstanceWhoseEngineStoppedFailsNoJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	s.start(s.Text(s.config(rig.Config{IdleCount: 1, MaxInstances: 2})))
	first := s.enqueue(coordinator.JobSpec{})
	s.succeeds(first)
	instance := s.instanceOf(first)
	s.eventually(2*soon, func() bool { return s.logged("instance is warm") > 0 }, "the instance is not warm")
	for _, alive := range s.fleet.Alive() {
		s.inInstance(alive, "pkill", "-KILL", "dockerd")
	}
	next := s.enqueue(coordinator.JobSpec{})
	s.succeeds(next)
	s.eventually(2*soon, func() bool { return !slices.Contains(s.fleet.Alive(), instance) }, "the dead instance was kept")
}

func TestAnIdleInstanceThatFellSilentFailsNoJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	s.start(s.Text(s.config(rig.Config{IdleCount: 1})))
	first := s.enqueue(coordinator.JobSpec{})
	s.succeeds(first)
	instance := s.instanceOf(first)
	require.NoError(t, rig.FreezeInstance(instance))
	s.eventually(soon, func() bool { return s.logged("instance unexpectedly removed") == 1 }, "the loss was not noticed")
	next := s.enqueue(coordinator.JobSpec{})
	s.succeeds(next)
	require.NotEqual(t, instance, s.instanceOf(next))
}

func TestAJobWhoseEngineStoppedFailsAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.newGate()
	s.start(s.Text(s.config(rig.Config{IdleCount: 1, MaxInstances: 2})))
	job := s.running(gate)
	instance := s.instanceOf(job)
	stopped := time.Now()
	require.NoError(t, rig.StopEngine(instance))
	record := s.ended(job)
	require.Equal(t, "runner_system_failure", record.FailureReason)
	require.Less(t, record.Times.Finished.Sub(stopped), 5*time.Second)
	require.Contains(t, coordinator.PlainLog(record.Trace), "ERROR: Job failed (system failure): instance "+instance+" was lost during the job: ")
	require.Contains(t, coordinator.PlainLog(record.Trace), "the Docker engine has stopped")
	s.awaitLog("error", "instance unexpectedly removed", instance)
	gate.open()
	s.succeeds(s.enqueue(coordinator.JobSpec{}))
}
