// Package prometheus turns the provisioner's figures into Prometheus metrics. A Collector is given to
// the provisioner and registered with a Prometheus registry. It is a module of its own, so that only
// programs that want it depend on the Prometheus client.
package prometheus

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gitlab.com/gitlab-org/fleeting/fleeting/metrics"
)

const (
	namespace = "fleeting"
	subsystem = "provisioner"
)

// Collector implements both metrics.Collector and prometheus.Collector. It is safe for concurrent use.
type Collector struct {
	instances          *prometheus.GaugeVec
	maxInstances       prometheus.Gauge
	missedUpdates      prometheus.Counter
	instanceOperations *prometheus.CounterVec
	internalOperations *prometheus.CounterVec
	creationTime       prometheus.Histogram
	isRunningTime      prometheus.Histogram
	deletionTime       prometheus.Histogram
	lifeDuration       prometheus.Histogram
}

var (
	_ metrics.Collector    = (*Collector)(nil)
	_ prometheus.Collector = (*Collector)(nil)
)

// New returns a Collector.
func New(options ...Option) *Collector {
	o := newSettings(options)
	labels := o.constLabels
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, ConstLabels: labels}
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, ConstLabels: labels, Buckets: buckets,
		})
	}
	return &Collector{
		instances: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "instances", ConstLabels: labels,
			Help: "Number of instances by state.",
		}, []string{"state"}),
		maxInstances: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "max_instances", ConstLabels: labels,
			Help: "Maximum number of instances, counted regardless of their state.",
		}),
		missedUpdates: prometheus.NewCounter(counter("missed_updates_total",
			"Number of times a known instance was missing from an update.")),
		instanceOperations: prometheus.NewCounterVec(counter("instance_operations_total",
			"Number of accepted operations on instances, by operation."), []string{"operation"}),
		internalOperations: prometheus.NewCounterVec(counter("internal_operations_total",
			"Number of steps the provisioner has executed, by step."), []string{"operation"}),
		creationTime: histogram("instance_creation_time_seconds",
			"Time from the request of an instance to its discovery.", o.creationTime),
		isRunningTime: histogram("instance_is_running_time_seconds",
			"Time from the request of an instance until it runs.", o.isRunningTime),
		deletionTime: histogram("instance_deletion_time_seconds",
			"Time from asking for the deletion of an instance to its end.", o.deletionTime),
		lifeDuration: histogram("instance_life_duration_seconds",
			"Time from the request, or discovery, of an instance to its end.", o.lifeDuration),
	}
}

func (c *Collector) parts() []prometheus.Collector {
	return []prometheus.Collector{
		c.instances, c.maxInstances, c.missedUpdates, c.instanceOperations, c.internalOperations,
		c.creationTime, c.isRunningTime, c.deletionTime, c.lifeDuration,
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, part := range c.parts() {
		part.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for _, part := range c.parts() {
		part.Collect(ch)
	}
}

// SetInstances implements metrics.Collector.
func (c *Collector) SetInstances(state string, count int) {
	c.instances.WithLabelValues(state).Set(float64(count))
}

// SetMaxInstances implements metrics.Collector.
func (c *Collector) SetMaxInstances(count int) { c.maxInstances.Set(float64(count)) }

// AddMissedUpdates implements metrics.Collector.
func (c *Collector) AddMissedUpdates(count int) { c.missedUpdates.Add(float64(count)) }

// AddInstanceOperations implements metrics.Collector.
func (c *Collector) AddInstanceOperations(operation string, count int) {
	c.instanceOperations.WithLabelValues(operation).Add(float64(count))
}

// AddInternalOperations implements metrics.Collector.
func (c *Collector) AddInternalOperations(operation string, count int) {
	c.internalOperations.WithLabelValues(operation).Add(float64(count))
}

// ObserveInstanceCreationTime implements metrics.Collector.
func (c *Collector) ObserveInstanceCreationTime(d time.Duration) { c.creationTime.Observe(d.Seconds()) }

// ObserveInstanceIsRunningTime implements metrics.Collector.
func (c *Collector) ObserveInstanceIsRunningTime(d time.Duration) {
	c.isRunningTime.Observe(d.Seconds())
}

// ObserveInstanceDeletionTime implements metrics.Collector.
func (c *Collector) ObserveInstanceDeletionTime(d time.Duration) { c.deletionTime.Observe(d.Seconds()) }

// ObserveInstanceLifeDuration implements metrics.Collector.
func (c *Collector) ObserveInstanceLifeDuration(d time.Duration) { c.lifeDuration.Observe(d.Seconds()) }
