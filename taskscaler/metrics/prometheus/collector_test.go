package prometheus

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/taskscaler/metrics"
)

func TestFiguresAppearUnderTheirNames(t *testing.T) {
	c := New(
		WithConstLabels(prometheus.Labels{"runner": "abc"}),
		WithInstanceReadinessTimeBuckets([]float64{1, 10}),
	)
	c.SetTasks(metrics.StateIdle, 3)
	c.SetTasks(metrics.StateIdle, 2)
	c.SetMaxTasksPerInstance(4)
	c.SetMaxUseCountPerInstance(9)
	c.SetDesiredInstances(5)
	c.AddTaskOperations(metrics.OperationAcquire, 1)
	c.AddTaskOperations(metrics.OperationAcquire, 2)
	c.AddScaleOperations(metrics.ScaleUp, 6)
	c.ObserveTaskInstanceReadinessTime(1500 * time.Millisecond)

	require.NoError(t, testutil.CollectAndCompare(c, strings.NewReader(`
# HELP fleeting_taskscaler_desired_instances Number of instances wanted now.
# TYPE fleeting_taskscaler_desired_instances gauge
fleeting_taskscaler_desired_instances{runner="abc"} 5
# HELP fleeting_taskscaler_max_tasks_per_instance Number of tasks an instance runs at the same time.
# TYPE fleeting_taskscaler_max_tasks_per_instance gauge
fleeting_taskscaler_max_tasks_per_instance{runner="abc"} 4
# HELP fleeting_taskscaler_max_use_count_per_instance Number of tasks an instance runs before it is removed; 0 is no limit.
# TYPE fleeting_taskscaler_max_use_count_per_instance gauge
fleeting_taskscaler_max_use_count_per_instance{runner="abc"} 9
# HELP fleeting_taskscaler_scale_operations_total Number of instances asked for (up) and given up (down).
# TYPE fleeting_taskscaler_scale_operations_total counter
fleeting_taskscaler_scale_operations_total{operation="down",runner="abc"} 0
fleeting_taskscaler_scale_operations_total{operation="up",runner="abc"} 6
# HELP fleeting_taskscaler_task_instance_readiness_time_seconds Time from an instance running until it was ready for tasks.
# TYPE fleeting_taskscaler_task_instance_readiness_time_seconds histogram
fleeting_taskscaler_task_instance_readiness_time_seconds_bucket{runner="abc",le="1"} 0
fleeting_taskscaler_task_instance_readiness_time_seconds_bucket{runner="abc",le="10"} 1
fleeting_taskscaler_task_instance_readiness_time_seconds_bucket{runner="abc",le="+Inf"} 1
fleeting_taskscaler_task_instance_readiness_time_seconds_sum{runner="abc"} 1.5
fleeting_taskscaler_task_instance_readiness_time_seconds_count{runner="abc"} 1
# HELP fleeting_taskscaler_task_operations_total Number of operations on tasks.
# TYPE fleeting_taskscaler_task_operations_total counter
fleeting_taskscaler_task_operations_total{operation="acquire",runner="abc"} 3
fleeting_taskscaler_task_operations_total{operation="acquire_failure",runner="abc"} 0
fleeting_taskscaler_task_operations_total{operation="release",runner="abc"} 0
fleeting_taskscaler_task_operations_total{operation="reserve",runner="abc"} 0
fleeting_taskscaler_task_operations_total{operation="reserve_available_capacity_failure",runner="abc"} 0
fleeting_taskscaler_task_operations_total{operation="reserve_iop_capacity_failure",runner="abc"} 0
fleeting_taskscaler_task_operations_total{operation="reserve_throttled",runner="abc"} 0
fleeting_taskscaler_task_operations_total{operation="resume",runner="abc"} 0
fleeting_taskscaler_task_operations_total{operation="suspend",runner="abc"} 0
fleeting_taskscaler_task_operations_total{operation="unreserve",runner="abc"} 0
# HELP fleeting_taskscaler_tasks Number of tasks and of slots for tasks, by state.
# TYPE fleeting_taskscaler_tasks gauge
fleeting_taskscaler_tasks{runner="abc",state="acquired"} 0
fleeting_taskscaler_tasks{runner="abc",state="idle"} 2
fleeting_taskscaler_tasks{runner="abc",state="pending"} 0
fleeting_taskscaler_tasks{runner="abc",state="reserved"} 0
fleeting_taskscaler_tasks{runner="abc",state="suspended"} 0
fleeting_taskscaler_tasks{runner="abc",state="unavailable"} 0
fleeting_taskscaler_tasks{runner="abc",state="unhealthy"} 0
`)))
}

func TestNilBucketsSelectTheDefaults(t *testing.T) {
	c := New(WithInstanceReadinessTimeBuckets(nil))
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "fleeting_taskscaler_task_instance_readiness_time_seconds" {
			require.Len(t, family.GetMetric()[0].GetHistogram().GetBucket(), len(defaultReadinessBuckets()))
			return
		}
	}
	t.Fatal("the histogram is missing")
}

func TestTwoRunnersShareARegistryByTheirConstantLabels(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(New(WithConstLabels(prometheus.Labels{"runner": "a"}))))
	require.NoError(t, registry.Register(New(WithConstLabels(prometheus.Labels{"runner": "b"}))))
	_, err := registry.Gather()
	require.NoError(t, err)
}
