// Package prometheus exposes the figures of a scaler as Prometheus metrics named
// fleeting_taskscaler_*. It is a module of its own so that only programs which export metrics depend
// on the Prometheus client. Any program may import it.
package prometheus

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gitlab.com/gitlab-org/fleeting/taskscaler/metrics"
)

const (
	namespace = "fleeting"
	subsystem = "taskscaler"
)

// defaultReadinessBuckets run, in seconds, from a warm local instance to a machine with slow set-up.
func defaultReadinessBuckets() []float64 {
	return []float64{1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200}
}

// Collector receives the figures of one scaler and is to be registered with a Prometheus registry.
type Collector struct {
	tasks            *prometheus.GaugeVec
	maxTasks         prometheus.Gauge
	maxUseCount      prometheus.Gauge
	desiredInstances prometheus.Gauge
	taskOperations   *prometheus.CounterVec
	scaleOperations  *prometheus.CounterVec
	readinessTime    prometheus.Histogram
}

var (
	_ metrics.Collector    = (*Collector)(nil)
	_ prometheus.Collector = (*Collector)(nil)
)

// Option changes a setting of a Collector.
type Option func(*options)

type options struct {
	constLabels      prometheus.Labels
	readinessBuckets []float64
}

// WithConstLabels sets labels that all metrics carry.
func WithConstLabels(labels prometheus.Labels) Option {
	return func(o *options) { o.constLabels = labels }
}

// WithInstanceReadinessTimeBuckets sets the upper bounds, in seconds and ascending, of the histogram
// of readiness times. None selects the default.
func WithInstanceReadinessTimeBuckets(buckets []float64) Option {
	return func(o *options) { o.readinessBuckets = buckets }
}

// New returns a Collector. Every series with a known label value exists from the start, at zero.
func New(opts ...Option) *Collector {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if len(o.readinessBuckets) == 0 {
		o.readinessBuckets = defaultReadinessBuckets()
	}

	c := &Collector{
		tasks: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "tasks", ConstLabels: o.constLabels,
			Help: "Number of tasks and of slots for tasks, by state.",
		}, []string{"state"}),
		maxTasks: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "max_tasks_per_instance", ConstLabels: o.constLabels,
			Help: "Number of tasks an instance runs at the same time.",
		}),
		maxUseCount: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "max_use_count_per_instance", ConstLabels: o.constLabels,
			Help: "Number of tasks an instance runs before it is removed; 0 is no limit.",
		}),
		desiredInstances: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "desired_instances", ConstLabels: o.constLabels,
			Help: "Number of instances wanted now.",
		}),
		taskOperations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "task_operations_total", ConstLabels: o.constLabels,
			Help: "Number of operations on tasks.",
		}, []string{"operation"}),
		scaleOperations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "scale_operations_total", ConstLabels: o.constLabels,
			Help: "Number of instances asked for (up) and given up (down).",
		}, []string{"operation"}),
		readinessTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "task_instance_readiness_time_seconds", ConstLabels: o.constLabels,
			Help:    "Time from an instance running until it was ready for tasks.",
			Buckets: o.readinessBuckets,
		}),
	}

	for _, state := range []string{
		metrics.StateIdle, metrics.StatePending, metrics.StateAcquired, metrics.StateReserved,
		metrics.StateUnavailable, metrics.StateUnhealthy, metrics.StateSuspended,
	} {
		c.tasks.WithLabelValues(state)
	}
	for _, operation := range []string{
		metrics.OperationReserve, metrics.OperationUnreserve, metrics.OperationAcquire, metrics.OperationRelease,
		metrics.OperationSuspend, metrics.OperationResume, metrics.OperationAcquireFailure,
		metrics.OperationReservePotentialFailure, metrics.OperationReserveAvailableFailure, metrics.OperationReserveThrottled,
	} {
		c.taskOperations.WithLabelValues(operation)
	}
	c.scaleOperations.WithLabelValues(metrics.ScaleUp)
	c.scaleOperations.WithLabelValues(metrics.ScaleDown)
	return c
}

// Describe sends the descriptions of all metrics.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect sends the current figures.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	c.tasks.Collect(ch)
	c.maxTasks.Collect(ch)
	c.maxUseCount.Collect(ch)
	c.desiredInstances.Collect(ch)
	c.taskOperations.Collect(ch)
	c.scaleOperations.Collect(ch)
	c.readinessTime.Collect(ch)
}

// SetTasks sets the number of tasks or slots in a state.
func (c *Collector) SetTasks(state string, count int) {
	c.tasks.WithLabelValues(state).Set(float64(count))
}

// SetMaxTasksPerInstance sets the number of slots of an instance.
func (c *Collector) SetMaxTasksPerInstance(count int) { c.maxTasks.Set(float64(count)) }

// SetMaxUseCountPerInstance sets how many tasks an instance serves in its life.
func (c *Collector) SetMaxUseCountPerInstance(count int) { c.maxUseCount.Set(float64(count)) }

// SetDesiredInstances sets the number of instances that are wanted now.
func (c *Collector) SetDesiredInstances(count int) { c.desiredInstances.Set(float64(count)) }

// AddTaskOperations adds to the number of operations on tasks.
func (c *Collector) AddTaskOperations(operation string, count int) {
	c.taskOperations.WithLabelValues(operation).Add(float64(count))
}

// AddScaleOperations adds to the number of instances asked for or given up.
func (c *Collector) AddScaleOperations(operation string, count int) {
	c.scaleOperations.WithLabelValues(operation).Add(float64(count))
}

// ObserveTaskInstanceReadinessTime records how long it took an instance to get ready.
func (c *Collector) ObserveTaskInstanceReadinessTime(d time.Duration) {
	c.readinessTime.Observe(d.Seconds())
}
