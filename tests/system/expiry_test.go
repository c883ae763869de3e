//go:build system

package system

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestAJobWhoseTokenExpiresIsStoppedAndTheInstanceServesTheNextOne(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{IdleCount: 1, MaxInstances: 1}))
	afterwards := s.NewGate()
	job := s.Enqueue(coordinator.JobSpec{
		Script:      []string{"echo started", "while true; do echo tick; sleep 0.2; done"},
		AfterScript: []string{afterwards.Wait},
	})
	require.NoError(t, job.WaitTrace(s.Ctx, "started\n"))
	instance := s.Instance()

	refused := s.Coordinator.Inject(coordinator.Fault{Job: job, Status: http.StatusForbidden, Times: 1 << 20})
	filter := fmt.Sprintf("label=%s=%d", jobLabel, job.ID())
	s.Eventually(cancelLimit, func() bool { return len(s.objects(instance, filter)) == 0 }, "objects of the job are left")
	s.AwaitLog("warning", "Appending trace to coordinator... aborted")
	require.Zero(t, afterwards.Visits(), "after_script ran although GitLab takes no more of the job")

	refused.Remove()
	job.Fail("stuck_or_timeout_failure")
	s.Succeeds(coordinator.JobSpec{})
	require.Equal(t, []string{instance}, s.Fleet.Alive())
}
