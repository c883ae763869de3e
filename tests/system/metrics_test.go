//go:build system

package system

import (
	"fmt"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// The metrics that dashboards are made of.
var (
	fleetMetrics = []string{
		"fleeting_provisioner_instances", "fleeting_provisioner_max_instances", "fleeting_provisioner_missed_updates_total",
		"fleeting_provisioner_instance_operations_total", "fleeting_provisioner_internal_operations_total",
		"fleeting_provisioner_instance_creation_time_seconds", "fleeting_provisioner_instance_is_running_time_seconds",
		"fleeting_provisioner_instance_deletion_time_seconds", "fleeting_provisioner_instance_life_duration_seconds",
		"fleeting_taskscaler_tasks", "fleeting_taskscaler_max_tasks_per_instance", "fleeting_taskscaler_max_use_count_per_instance",
		"fleeting_taskscaler_desired_instances", "fleeting_taskscaler_task_operations_total",
		"fleeting_taskscaler_scale_operations_total", "fleeting_taskscaler_task_instance_readiness_time_seconds",
	}
	runnerMetrics = []string{
		"gitlab_runner_jobs", "gitlab_runner_jobs_total", "gitlab_runner_job_queue_size", "gitlab_runner_job_queue_depth",
		"gitlab_runner_job_duration_seconds", "gitlab_runner_job_queue_duration_seconds",
		"gitlab_runner_limit", "gitlab_runner_worker_feeds_total",
		"gitlab_runner_worker_processing_failures_total",
	}
	entryMetrics = []string{
		"gitlab_runner_request_concurrency",
		"gitlab_runner_request_concurrency_hard_limit", "gitlab_runner_request_concurrency_adaptive_limit",
		"gitlab_runner_request_concurrency_used_limit",
		"gitlab_runner_api_request_statuses_total", "gitlab_runner_api_request_duration_seconds",
	}
	processMetrics = []string{
		"gitlab_runner_concurrent", "gitlab_runner_worker_slots_number", "gitlab_runner_worker_slot_operations_total",
		"gitlab_runner_configuration_loaded_total", "gitlab_runner_configuration_loading_error_total",
		"gitlab_runner_version_info", "gitlab_runner_job_execution_mode_total", "gitlab_runner_errors_total",
		"process_cpu_seconds_total", "go_goroutines",
	}
)

func TestMetricsAppearAfterTheFirstPollAndCountEachSlotOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	config := s.Autoscaled(rig.Config{Capacity: 2, IdleCount: 2, MaxUseCount: 9})
	// An entry without a token asks for no jobs.
	s.LaunchText(strings.Replace(s.Text(config), s.Coordinator.RunnerToken(), "", 1), "--listen-address", "127.0.0.1:0")
	require.Empty(t, s.scrape().withPrefix("fleeting_"))
	require.NoError(t, s.WriteConfig(s.Text(config)))

	const jobs = 3
	for range jobs {
		s.Succeeds(coordinator.JobSpec{})
	}
	got := s.awaitMetric(metric{name: "fleeting_taskscaler_task_operations_total", labels: "operation=release"}, jobs)
	const operations = "fleeting_taskscaler_task_operations_total"
	require.EqualValues(t, jobs, got.value(operations, "operation=acquire"))
	// The tasks are measured after the operation that changed them was counted.
	s.Eventually(soon, func() bool {
		return s.scrape().value("fleeting_taskscaler_tasks", "state=acquired") == 0
	}, "tasks are acquired after their jobs")
	require.EqualValues(t, 2, got.value("fleeting_taskscaler_max_tasks_per_instance", ""))
	require.EqualValues(t, 9, got.value("fleeting_taskscaler_max_use_count_per_instance", ""))
	require.EqualValues(t, 1, got.value("fleeting_provisioner_max_instances", ""))
	require.EqualValues(t, 1, got.value("fleeting_provisioner_instances", "state=running"))
	require.EqualValues(t, jobs, got.value("gitlab_runner_jobs_total", ""))
	// Every poll that found no job gave its reservation back: what is reserved is the poll under way.
	reserved := got.value(operations, "operation=reserve") - got.value(operations, "operation=unreserve") - jobs
	require.LessOrEqual(t, reserved, 4.0)

	constant := []string{"runner", "runner_name", "system_id"}
	for names, labels := range map[*[]string][]string{
		&fleetMetrics: constant, &runnerMetrics: constant, &entryMetrics: {"runner", "system_id"}, &processMetrics: nil,
	} {
		for _, name := range *names {
			family := got[name]
			require.NotNil(t, family, "there is no metric %s", name)
			for _, one := range family.GetMetric() {
				for _, label := range labels {
					require.NotEmpty(t, labelOf(one, label), "label %s of %s", label, name)
				}
			}
		}
	}
	short := strings.TrimPrefix(s.Coordinator.RunnerToken(), "glrt-t3_")[:9]
	require.Equal(t, short, labelOf(got["fleeting_taskscaler_tasks"].GetMetric()[0], "runner"))
	require.Equal(t, "rig-docker-autoscaler", labelOf(got["fleeting_taskscaler_tasks"].GetMetric()[0], "runner_name"))
}

// metric names a value: labels are "name=value", or empty for any.
type metric struct{ name, labels string }

// metrics is what a manager shows, by name.
type metrics map[string]*dto.MetricFamily

func (m metrics) withPrefix(prefix string) []string {
	var names []string
	for name := range m {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names
}

// value is the sum of the values with a label.
func (m metrics) value(name, labels string) float64 {
	label, want, _ := strings.Cut(labels, "=")
	sum := 0.0
	for _, one := range m[name].GetMetric() {
		if labels == "" || labelOf(one, label) == want {
			sum += one.GetGauge().GetValue() + one.GetCounter().GetValue()
		}
	}
	return sum
}

func labelOf(one *dto.Metric, name string) string {
	for _, pair := range one.GetLabel() {
		if pair.GetName() == name {
			return pair.GetValue()
		}
	}
	return ""
}

// scrape reads the manager's metrics, which must listen on a port of its own choice.
func (s *stage) scrape() metrics {
	s.Helper()
	text, _ := s.Get(s.Listening(), "/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	require.NoError(s, err)
	return families
}

// awaitMetric waits for a value and returns all metrics.
func (s *stage) awaitMetric(want metric, value float64) metrics {
	s.Helper()
	var got metrics
	s.Eventually(soon, func() bool {
		got = s.scrape()
		return got.value(want.name, want.labels) >= value
	}, "%v did not become %v", want, value)
	require.Equal(s, value, got.value(want.name, want.labels), fmt.Sprint(want))
	return got
}
