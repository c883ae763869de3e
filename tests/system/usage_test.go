//go:build system

package system

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

func TestTheUsageOfJobsIsLoggedWhileTheConfigurationWantsIt(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	text := s.Text(rig.Config{Executor: "docker", Keys: "  labels = {\"team\" = \"entry\", \"place\" = \"here\"}"})
	logged := fmt.Sprintf("%s\n[experimental.usage_logger]\nenabled = true\n[experimental.usage_logger.logrotate]\nlabels = {\"team\" = \"log\"}\n", text)
	require.NoError(t, s.WriteConfig(logged))
	s.Start()
	dir := s.AwaitLog("info", "Usage logger enabled").Text("log_dir")
	require.Equal(t, filepath.Join(filepath.Dir(s.ConfigPath()), "usage-log"), dir)
	good := s.Succeeds(coordinator.JobSpec{})
	bad := s.Ended(s.Enqueue(coordinator.JobSpec{Script: []string{"exit 3"}}))

	require.NoError(t, s.WriteConfig(text))
	s.AwaitLog("info", "Usage logger disabled")
	s.Succeeds(coordinator.JobSpec{Name: "not logged"})

	names, err := filepath.Glob(filepath.Join(dir, "usage-log-*.json"))
	require.NoError(t, err)
	require.Len(t, names, 1)
	data, err := os.ReadFile(names[0])
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	require.Len(t, lines, 2)
	for i, want := range []struct {
		record         coordinator.Record
		status, reason string
	}{{good, "success", ""}, {bad, "failed", "script_failure"}} {
		var got struct {
			Runner map[string]string
			Job    struct {
				ID              int64
				Ref, URL        string
				PipelineID      int64   `json:"pipeline_id"`
				DurationSeconds float64 `json:"duration_seconds"`
				Status          string
				FailureReason   string    `json:"failure_reason"`
				StartedAt       time.Time `json:"started_at"`
				FinishedAt      time.Time `json:"finished_at"`
				Project         struct {
					ID       int64
					Name     string
					FullPath string `json:"full_path"`
				}
				Namespace, Organization struct{ ID int64 }
				RootNamespace           struct{ ID int64 } `json:"root_namespace"`
				Instance                struct{ ID string }
				User                    struct{ ID int64 }
			}
			Labels map[string]string
		}
		require.NoError(t, json.Unmarshal([]byte(lines[i]), &got))
		require.NotContains(t, lines[i], s.Coordinator.RunnerToken())
		require.Equal(t, "rig-docker", got.Runner["name"])
		require.Equal(t, "docker", got.Runner["executor"])
		require.Len(t, got.Runner["id"], 9)
		require.NotEmpty(t, got.Runner["system_id"])
		require.Equal(t, map[string]string{"team": "log", "place": "here"}, got.Labels)
		require.Equal(t, want.record.ID, got.Job.ID)
		require.Equal(t, want.status, got.Job.Status)
		require.Equal(t, want.reason, got.Job.FailureReason)
		require.True(t, strings.HasSuffix(got.Job.URL, fmt.Sprintf("/-/jobs/%d", want.record.ID)), got.Job.URL)
		require.NotContains(t, got.Job.URL, "@")
		require.NotEmpty(t, got.Job.Ref)
		require.Positive(t, got.Job.DurationSeconds)
		require.True(t, got.Job.StartedAt.Before(got.Job.FinishedAt))
		for what, id := range map[string]int64{
			"project": got.Job.Project.ID, "namespace": got.Job.Namespace.ID, "root namespace": got.Job.RootNamespace.ID,
			"organization": got.Job.Organization.ID, "user": got.Job.User.ID, "pipeline": got.Job.PipelineID,
		} {
			require.Positive(t, id, what)
		}
		require.NotEmpty(t, got.Job.Project.Name)
		require.NotEmpty(t, got.Job.Project.FullPath)
		require.Equal(t, "stand-in", got.Job.Instance.ID)
	}
}
