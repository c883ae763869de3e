package manager

import (
	"sort"
	"sync"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// JobStatus is a job under way.
type JobStatus struct {
	ID     int64
	URL    string
	Runner *config.Runner
	Status common.Status
}

// jobList knows the jobs under way.
type jobList struct {
	mu   sync.Mutex
	jobs map[*common.Build]JobStatus
}

func newJobList() *jobList { return &jobList{jobs: map[*common.Build]JobStatus{}} }

func (l *jobList) add(build *common.Build, status JobStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs[build] = status
}

func (l *jobList) remove(build *common.Build) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.jobs, build)
}

// all returns the jobs with their status of this moment, by id.
func (l *jobList) all() []JobStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]JobStatus, 0, len(l.jobs))
	for build, status := range l.jobs {
		status.Status = build.Status()
		out = append(out, status)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID < out[j].ID })
	return out
}
