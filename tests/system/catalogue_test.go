//go:build system

package system

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

var updateCatalogue = flag.Bool("update-catalogue", false, "write the names, types and labels of the metrics to testdata")

const catalogueFile = "testdata/metrics.golden"

// catalogue lists metrics as "name type labels [buckets]".
func (m metrics) catalogue() []string {
	var lines []string
	for name, family := range m {
		if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "process_") || strings.HasPrefix(name, "promhttp_") {
			continue
		}
		one := family.GetMetric()[0]
		var labels, buckets []string
		for _, pair := range one.GetLabel() {
			labels = append(labels, pair.GetName())
		}
		slices.Sort(labels)
		for _, bucket := range one.GetHistogram().GetBucket() {
			buckets = append(buckets, fmt.Sprint(bucket.GetUpperBound()))
		}
		line := fmt.Sprintf("%s %s {%s}", name, strings.ToLower(family.GetType().String()), strings.Join(labels, ","))
		if len(buckets) > 0 {
			line += " " + strings.Join(buckets, ",")
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// onOccasion are metrics that a run need not have: there may be nothing to count.
var onOccasion = []string{
	"gitlab_runner_errors_total", "gitlab_runner_request_concurrency_exceeded_total",
	"gitlab_runner_worker_feed_failures_total", "gitlab_runner_worker_health_check_failures_total",
	"gitlab_runner_worker_processing_failures_total",
}

func TestARunWithJobsHasTheMetricsOfTheCatalogue(t *testing.T) {
	t.Parallel()
	s := newStage(t, coordinator.Config{})
	s.Launch(s.Autoscaled(rig.Config{
		Capacity: 1, IdleCount: 1,
		Policy: "  [runners.feature_flags]\n    FF_EXPORT_HIGH_CARDINALITY_METRICS = true\n    FF_ENABLE_JOB_INPUTS_INTERPOLATION = true\n",
	}), "--listen-address", "127.0.0.1:0")
	s.Succeeds(coordinator.JobSpec{})
	failed := s.Ended(s.Enqueue(coordinator.JobSpec{Script: []string{"exit 3"}}))
	s.RequireState(failed, coordinator.StateFailed, "script_failure")
	s.Ended(s.Enqueue(coordinator.JobSpec{Script: []string{"echo ${{ job.inputs.absent }}"}, Patch: func(payload map[string]any) {
		payload["inputs"] = []map[string]any{{"key": "there", "value": map[string]any{"type": "string", "content": "x", "sensitive": false}}}
	}}))
	got := s.awaitMetric(metric{name: "gitlab_runner_worker_slot_operations_total", labels: "operation=stopped"}, 3)
	require.EqualValues(t, 1, got.value("gitlab_runner_job_inputs_interpolation_failures_total", "error_type=evaluation"))
	lines := got.catalogue()
	data, err := os.ReadFile(catalogueFile)
	require.NoError(t, err)
	known := strings.Split(strings.TrimSpace(string(data)), "\n")
	if *updateCatalogue {
		known = slices.DeleteFunc(known, func(line string) bool {
			name, _, _ := strings.Cut(line, " ")
			return !slices.Contains(onOccasion, name)
		})
		known = append(known, lines...)
		slices.Sort(known)
		known = slices.Compact(known)
		require.NoError(t, os.WriteFile(catalogueFile, []byte(strings.Join(known, "\n")+"\n"), 0o644))
	}
	for _, line := range lines {
		require.Contains(t, known, line, "a metric that is not in %s, or another type, labels or buckets", catalogueFile)
	}
	for _, line := range known {
		name, _, _ := strings.Cut(line, " ")
		if !slices.Contains(onOccasion, name) {
			require.Contains(t, lines, line, "a metric of %s is missing", catalogueFile)
		}
	}
}
