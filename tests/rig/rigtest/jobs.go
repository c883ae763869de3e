package rigtest

import (
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

// Enqueue hands out a job without sources. It runs on Busybox and does nothing unless the spec says otherwise.
func (s *Stage) Enqueue(spec coordinator.JobSpec) *coordinator.Job {
	s.Helper()
	spec.Variables = append(spec.Variables, coordinator.Variable{Key: "GIT_STRATEGY", Value: "none"})
	return s.EnqueueWithSources(spec)
}

// EnqueueWithSources hands out a job that clones the sample's repository.
func (s *Stage) EnqueueWithSources(spec coordinator.JobSpec) *coordinator.Job {
	s.Helper()
	if spec.Image.Name == "" {
		spec.Image.Name = Busybox
	}
	if spec.Script == nil {
		spec.Script = []string{"true"}
	}
	job, err := s.Coordinator.Enqueue(spec)
	require.NoError(s, err)
	return job
}

// Running enqueues a job that waits at a gate, and returns when its script has begun.
func (s *Stage) Running(g *Gate) *coordinator.Job {
	s.Helper()
	job := s.Enqueue(coordinator.JobSpec{Script: []string{"echo started", g.Wait}})
	require.NoError(s, job.WaitTrace(s.Ctx, "started\n"))
	return job
}

// Ended waits for the end of a job and returns its record.
func (s *Stage) Ended(job *coordinator.Job) coordinator.Record {
	s.Helper()
	require.NoError(s, job.Wait(s.Ctx))
	return job.Record()
}

// Succeeds runs one job that must succeed.
func (s *Stage) Succeeds(spec coordinator.JobSpec) coordinator.Record {
	s.Helper()
	record := s.Ended(s.Enqueue(spec))
	s.RequireState(record, coordinator.StateSuccess, "")
	return record
}

// AllSucceed waits for the end of jobs that must succeed.
func (s *Stage) AllSucceed(jobs ...*coordinator.Job) {
	s.Helper()
	for _, job := range jobs {
		s.RequireState(s.Ended(job), coordinator.StateSuccess, "")
	}
}

// RequireState requires how a job ended.
func (s *Stage) RequireState(record coordinator.Record, state coordinator.State, reason string) {
	s.Helper()
	require.Equal(s, state, record.State, "job %d %q", record.ID, record.Name)
	require.Equal(s, reason, record.FailureReason, "job %d %q", record.ID, record.Name)
}
