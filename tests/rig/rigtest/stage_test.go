//go:build system

package rigtest

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestMain(m *testing.M) { Main(m) }

// TestATestThatLeavesSomethingFails has a test leave an instance and break the protocol, and look as if it were fine.
func TestATestThatLeavesSomethingFails(t *testing.T) {
	w := &witness{TB: t}
	var group string
	w.plays(func() {
		s := New(w, Options{Name: "untidy", Patience: time.Minute})
		group = s.Group
		out, err := exec.Command("docker", "run", "--detach", "--name", group+"-1", "--label", "com.gitlab.fleeting.group="+group,
			"--label", "com.gitlab.fleeting.role=instance", Busybox, "sleep", "600").CombinedOutput()
		require.NoError(s, err, "%s", out)
		answer, err := http.Post(s.Coordinator.URL()+"/api/v4/jobs/request", "application/json", strings.NewReader("{}"))
		require.NoError(s, err)
		require.NoError(s, answer.Body.Close())
		s.OnFailure(func() { s.Logf("more is told") })
	})
	said := w.said.String()
	require.True(t, w.Failed())
	require.Contains(t, said, "this was left behind:\n  container "+group+"-1")
	require.Contains(t, said, "the protocol was violated:\n")
	require.Contains(t, said, "more is told")
	left, err := rig.Instances(group)
	require.NoError(t, err)
	require.Empty(t, left, "what a test left must not be in the way of others")
}

// A manager that is stopped waits for its jobs, that of a failed test for longer than anybody wants to.
func TestTheManagerOfAFailedTestDoesNotWaitForItsJobs(t *testing.T) {
	w := &witness{TB: t}
	began := time.Now()
	w.plays(func() {
		s := New(w, Options{Name: "failing", Patience: time.Minute})
		s.Launch(s.Autoscaled(rig.Config{IdleCount: 1}))
		job := s.Enqueue(coordinator.JobSpec{Script: []string{"echo started", "sleep 300"}})
		require.NoError(s, job.WaitTrace(s.Ctx, "started\n"))
		require.Fail(s, "something else is wrong")
	})
	said := w.said.String()
	require.Less(t, time.Since(began), time.Minute)
	require.Contains(t, said, "something else is wrong")
	require.Contains(t, said, "the log of manager 1 of 1:\n")
	require.NotContains(t, said, "left behind")
}
