package manager_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

func TestJobsThatWaitedTooLongAreCounted(t *testing.T) {
	registry := prometheus.NewRegistry()
	metrics := manager.NewMetrics(registry, version.Info{})
	runner := &config.Runner{Name: "r", Token: "glrt-t3_0123456789", SystemID: "s_1"}
	started := func(seconds float64) {
		metrics.JobStarted(runner, &spec.Job{Info: spec.JobInfo{TimeInQueueSeconds: seconds}})
	}
	started(9999)
	runner.Monitoring = &config.Monitoring{JobQueuingDurations: []config.JobQueuingDuration{
		{Periods: []string{"* * * * * * *"}, Threshold: new(time.Minute)},
	}}
	started(60)
	require.NoError(t, counted(registry, 0))
	started(61)
	started(3600)
	require.NoError(t, counted(registry, 2))
}

func counted(registry *prometheus.Registry, want int) error {
	text := `# HELP gitlab_runner_acceptable_job_queuing_duration_exceeded_total Jobs that waited in the queue for longer than is acceptable.
# TYPE gitlab_runner_acceptable_job_queuing_duration_exceeded_total counter
gitlab_runner_acceptable_job_queuing_duration_exceeded_total{runner="012345678",runner_name="r",system_id="s_1"} `
	return testutil.GatherAndCompare(registry, strings.NewReader(text+string(rune('0'+want))+"\n"),
		"gitlab_runner_acceptable_job_queuing_duration_exceeded_total")
}
