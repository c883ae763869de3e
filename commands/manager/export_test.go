package manager

import (
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// JobStarted is for tests.
func (m *Metrics) JobStarted(r *config.Runner, job *spec.Job) { m.jobStarted(r, job) }

// LookForChanges loads the configuration again if it changed. It is for tests.
func (m *Manager) LookForChanges() { m.reload(false) }

// RotationDue is for tests.
var RotationDue = rotationDue
