//go:build system

package autoscaling

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestJobsOnAKilledInstanceFailInOneLineAndTheirSlotsComeBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.NewGate()
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 2, Capacity: 2}))
	jobs := []*coordinator.Job{s.Running(gate), s.Running(gate)}
	instance := s.instanceOf(jobs[0])
	killed := time.Now()
	require.NoError(t, rig.KillInstance(instance))
	for _, job := range jobs {
		record := s.Ended(job)
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
	s.AwaitLog("error", "instance unexpectedly removed", instance)
	gate.Open()
	s.AllSucceed(s.Enqueue(coordinator.JobSpec{}), s.Enqueue(coordinator.JobSpec{}))
}

func TestAnIdleInstanceWhoseEngineStoppedFailsNoJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1}))
	first := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(first)
	instance := s.instanceOf(first)
	s.Eventually(2*soon, func() bool { return s.Logged("instance is warm") > 0 }, "the instance is not warm")
	require.NoError(t, rig.StopEngine(instance))
	next := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(next)
	require.Contains(t, coordinator.PlainLog(next.Record().Trace), "Instance "+instance+" cannot be used, trying another one")
	s.Eventually(2*soon, func() bool { return !slices.Contains(s.Fleet.Alive(), instance) }, "the dead instance was kept")
}

func TestAnIdleInstanceThatFellSilentFailsNoJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1}))
	first := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(first)
	instance := s.instanceOf(first)
	require.NoError(t, rig.FreezeInstance(instance))
	s.Eventually(soon, func() bool { return s.Logged("instance unexpectedly removed") == 1 }, "the loss was not noticed")
	next := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(next)
	require.NotEqual(t, instance, s.instanceOf(next))
}

func TestAJobRunsOnAConnectedInstanceWhileThePluginIsDown(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1}))
	first := s.Enqueue(coordinator.JobSpec{})
	s.AllSucceed(first)
	killPlugins := func() {
		for _, pid := range s.Plugins() {
			// It may have ended by itself, because it was killed at the last look.
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	killPlugins()
	next := s.Enqueue(coordinator.JobSpec{})
	s.Eventually(soon, func() bool {
		killPlugins()
		return next.State().Final()
	}, "the job waits for the plugin")
	record := s.Ended(next)
	s.RequireState(record, coordinator.StateSuccess, "")
	require.NotContains(t, coordinator.PlainLog(record.Trace), "Preparation failed")
	require.Equal(t, s.instanceOf(first), s.instanceOf(next))
	// It has to remove the instance.
	s.AwaitLog("info", "plugin restarted")
}

func TestAJobWhoseEngineStoppedFailsAndSaysSo(t *testing.T) {
	t.Parallel()
	s := newStage(t, patience)
	gate := s.NewGate()
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1, MaxInstances: 2}))
	job := s.Running(gate)
	instance := s.instanceOf(job)
	stopped := time.Now()
	require.NoError(t, rig.StopEngine(instance))
	record := s.Ended(job)
	require.Equal(t, "runner_system_failure", record.FailureReason)
	require.Less(t, record.Times.Finished.Sub(stopped), 5*time.Second)
	require.Contains(t, coordinator.PlainLog(record.Trace), "ERROR: Job failed (system failure): instance "+instance+" was lost during the job: ")
	require.Contains(t, coordinator.PlainLog(record.Trace), "the Docker engine has stopped")
	s.AwaitLog("error", "instance unexpectedly removed", instance)
	gate.Open()
	s.AllSucceed(s.Enqueue(coordinator.JobSpec{}))
}
