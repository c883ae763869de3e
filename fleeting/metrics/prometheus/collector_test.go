package prometheus_test

import (
	"strings"
	"testing"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/metrics"
	"gitlab.com/gitlab-org/fleeting/fleeting/metrics/prometheus"
)

func TestMetrics(t *testing.T) {
	c := prometheus.New(
		prometheus.WithConstLabels(client.Labels{"runner": "abc"}),
		prometheus.WithInstanceCreationTimeBuckets([]float64{1}),
		prometheus.WithInstanceIsRunningTimeBuckets([]float64{2}),
		prometheus.WithInstanceDeletionTimeBuckets([]float64{3}),
		prometheus.WithInstanceLifeDurationBuckets([]float64{4}),
	)
	c.SetInstances("running", 2)
	c.SetInstances(metrics.StatePending, 1)
	c.SetMaxInstances(5)
	c.AddMissedUpdates(3)
	c.AddInstanceOperations(metrics.OperationCreate, 2)
	c.AddInternalOperations(metrics.InternalReconcile, 4)
	c.ObserveInstanceCreationTime(500 * time.Millisecond)
	c.ObserveInstanceIsRunningTime(3 * time.Second)
	c.ObserveInstanceDeletionTime(time.Second)
	c.ObserveInstanceLifeDuration(time.Minute)

	require.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(`
# HELP fleeting_provisioner_instance_creation_time_seconds Time from the request of an instance to its discovery.
# TYPE fleeting_provisioner_instance_creation_time_seconds histogram
fleeting_provisioner_instance_creation_time_seconds_bucket{runner="abc",le="1"} 1
fleeting_provisioner_instance_creation_time_seconds_bucket{runner="abc",le="+Inf"} 1
fleeting_provisioner_instance_creation_time_seconds_sum{runner="abc"} 0.5
fleeting_provisioner_instance_creation_time_seconds_count{runner="abc"} 1
# HELP fleeting_provisioner_instance_deletion_time_seconds Time from asking for the deletion of an instance to its end.
# TYPE fleeting_provisioner_instance_deletion_time_seconds histogram
fleeting_provisioner_instance_deletion_time_seconds_bucket{runner="abc",le="3"} 1
fleeting_provisioner_instance_deletion_time_seconds_bucket{runner="abc",le="+Inf"} 1
fleeting_provisioner_instance_deletion_time_seconds_sum{runner="abc"} 1
fleeting_provisioner_instance_deletion_time_seconds_count{runner="abc"} 1
# HELP fleeting_provisioner_instance_is_running_time_seconds Time from the request of an instance until it runs.
# TYPE fleeting_provisioner_instance_is_running_time_seconds histogram
fleeting_provisioner_instance_is_running_time_seconds_bucket{runner="abc",le="2"} 0
fleeting_provisioner_instance_is_running_time_seconds_bucket{runner="abc",le="+Inf"} 1
fleeting_provisioner_instance_is_running_time_seconds_sum{runner="abc"} 3
fleeting_provisioner_instance_is_running_time_seconds_count{runner="abc"} 1
# HELP fleeting_provisioner_instance_life_duration_seconds Time from the request, or discovery, of an instance to its end.
# TYPE fleeting_provisioner_instance_life_duration_seconds histogram
fleeting_provisioner_instance_life_duration_seconds_bucket{runner="abc",le="4"} 0
fleeting_provisioner_instance_life_duration_seconds_bucket{runner="abc",le="+Inf"} 1
fleeting_provisioner_instance_life_duration_seconds_sum{runner="abc"} 60
fleeting_provisioner_instance_life_duration_seconds_count{runner="abc"} 1
# HELP fleeting_provisioner_instance_operations_total Number of accepted operations on instances, by operation.
# TYPE fleeting_provisioner_instance_operations_total counter
fleeting_provisioner_instance_operations_total{operation="create",runner="abc"} 2
# HELP fleeting_provisioner_instances Number of instances by state.
# TYPE fleeting_provisioner_instances gauge
fleeting_provisioner_instances{runner="abc",state="pending"} 1
fleeting_provisioner_instances{runner="abc",state="running"} 2
# HELP fleeting_provisioner_internal_operations_total Number of steps the provisioner has executed, by step.
# TYPE fleeting_provisioner_internal_operations_total counter
fleeting_provisioner_internal_operations_total{operation="reconcile",runner="abc"} 4
# HELP fleeting_provisioner_max_instances Maximum number of instances, counted regardless of their state.
# TYPE fleeting_provisioner_max_instances gauge
fleeting_provisioner_max_instances{runner="abc"} 5
# HELP fleeting_provisioner_missed_updates_total Number of times a known instance was missing from an update.
# TYPE fleeting_provisioner_missed_updates_total counter
fleeting_provisioner_missed_updates_total{runner="abc"} 3
`)))
}

func TestNoBucketsSelectTheDefaults(t *testing.T) {
	given := prometheus.New(
		prometheus.WithInstanceCreationTimeBuckets(nil), prometheus.WithInstanceIsRunningTimeBuckets([]float64{}),
		prometheus.WithInstanceDeletionTimeBuckets(nil), prometheus.WithInstanceLifeDurationBuckets(nil))
	registry := client.NewPedanticRegistry()
	require.NoError(t, registry.Register(given))
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if h := metric.GetHistogram(); h != nil {
				require.Greater(t, len(h.GetBucket()), 5, family.GetName())
			}
		}
	}
}
