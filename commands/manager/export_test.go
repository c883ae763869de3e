package manager

import (
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// JobStarted is for tests.
func (m *Metrics) JobStarted(r *config.Runner, job *spec.Job) { m.jobStarted(r, job) }

// RotationDue is for tests.
var RotationDue = rotationDue
