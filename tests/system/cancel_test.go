//go:build system

package system

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// cancelLimit is how long a job may go on after it was cancelled.
const cancelLimit = 10 * time.Second

func TestCancelStopsAJobAndLeavesNothingOnTheInstance(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{Capacity: 4, IdleCount: 4}))
	witness := s.NewGate()
	witness.Open()
	spec := func(name, script string) coordinator.JobSpec {
		return coordinator.JobSpec{
			Name: name, Script: []string{"echo started", script},
			AfterScript: []string{`echo "after_script: job is $CI_JOB_STATUS"`, witness.Wait},
		}
	}
	gracefully := []*coordinator.Job{
		s.Enqueue(spec("talks", "while true; do echo tick; sleep 0.2; done")),
		s.Enqueue(spec("is silent", "sleep 300")),
		s.Enqueue(spec("has children", "sleep 301 & sleep 302 & wait")),
	}
	atOnce := s.Enqueue(spec("is over for GitLab", "sleep 300"))
	for _, job := range append(gracefully, atOnce) {
		require.NoError(t, job.WaitTrace(s.Ctx, "started\n"))
	}
	instance := s.Instance()
	for _, job := range gracefully {
		job.Cancel(true)
	}
	atOnce.Cancel(false)

	filter := fmt.Sprintf("label=%s=%d", jobLabel, atOnce.ID())
	s.Eventually(cancelLimit, func() bool { return len(s.objects(instance, filter)) == 0 }, "objects of the job are left")
	for _, job := range gracefully {
		record := s.Ended(job)
		s.RequireState(record, coordinator.StateCanceled, "job_canceled")
		took := record.Times.Finished.Sub(record.Times.Canceled)
		t.Logf("the job that %s ended %s after it was cancelled", record.Name, took)
		require.Less(t, took, cancelLimit, "the job that %s", record.Name)
		require.Empty(t, orderProblem(plain(record), []string{
			"started\n", "script canceled externally (UI, API)", "Running after_script", "after_script: job is canceled",
			"the gate is open", "ERROR: Job failed: canceled",
		}), "the log of the job that %s", record.Name)
		_, problems := readTrace(record)
		require.Empty(t, problems)
		require.Empty(t, s.objects(instance, fmt.Sprintf("label=%s=%d", jobLabel, record.ID)))
	}
	require.Equal(t, len(gracefully), witness.Visits(), "after_script of a job that was over for GitLab ran")
	s.Succeeds(coordinator.JobSpec{Name: "the next one"})
	s.Eventually(soon, func() bool { return len(s.objects(instance)) == 0 }, "objects are left on the instance")
}

func TestCancelWhileWaitingForAnInstanceEndsTheJob(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{
		MaxInstances: 2, Autoscaler: `    update_interval = "1s"`,
		Plugin: `      boot_delay = "5m"`,
	}))
	gracefully := s.Enqueue(coordinator.JobSpec{Name: "gracefully", AfterScript: []string{"echo after_script ran"}})
	atOnce := s.Enqueue(coordinator.JobSpec{Name: "at once"})
	for _, job := range []*coordinator.Job{gracefully, atOnce} {
		require.NoError(t, job.WaitTrace(s.Ctx, `Preparing the "docker-autoscaler" executor`))
	}
	gracefully.Cancel(true)
	atOnce.Cancel(false)
	record := s.Ended(gracefully)
	s.RequireState(record, coordinator.StateCanceled, "job_canceled")
	require.Less(t, record.Times.Finished.Sub(record.Times.Canceled), cancelLimit)
	require.Contains(t, plain(record), "ERROR: Job failed: canceled")
	require.NotContains(t, plain(record), "after_script ran")

	// A manager that still waited for an instance for one of them would not end.
	began := time.Now()
	s.Stop()
	require.Less(t, time.Since(began), 30*time.Second)
	require.Empty(t, s.Fleet.Alive(), "instances that were booting outlived the manager")
}
