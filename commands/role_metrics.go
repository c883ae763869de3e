package commands

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gitlab.com/gitlab-org/gitlab-runner/network/objectstore"
)

// roleMetrics are those of roles that are assumed for caches on S3. Names and buckets are a public contract.
type roleMetrics struct {
	inFlight prometheus.Gauge
	wait     prometheus.Histogram
	duration prometheus.Histogram
	hits     prometheus.Counter
	misses   prometheus.Counter
	failures prometheus.Counter
}

var _ objectstore.Recorder = (*roleMetrics)(nil)

// newRoleMetrics returns the metrics, registered. sessions is how many are held at the moment of asking.
func newRoleMetrics(registry prometheus.Registerer, sessions func() int) *roleMetrics {
	const prefix = "gitlab_runner_cache_s3_assume_role_"
	m := &roleMetrics{
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: prefix + "requests_in_flight", Help: "Requests to assume a role under way."}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "wait_seconds", Help: "Time until a role may be asked for, because of AssumeRoleMaxConcurrency.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10},
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + "duration_seconds", Help: "Duration of requests to assume a role.",
			Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30},
		}),
		hits:     prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "cache_hits_total", Help: "Times a session of a role was at hand."}),
		misses:   prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "cache_misses_total", Help: "Times a role had to be assumed."}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + "failures_total", Help: "Requests to assume a role that failed."}),
	}
	held := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: prefix + "cached_credentials", Help: "Sessions of roles that are held for further use.",
	}, func() float64 { return float64(sessions()) })
	registry.MustRegister(m.inFlight, m.wait, m.duration, m.hits, m.misses, m.failures, held)
	return m
}

// RoleReused implements [objectstore.Recorder].
func (m *roleMetrics) RoleReused() { m.hits.Inc() }

// RoleAwaited implements [objectstore.Recorder].
func (m *roleMetrics) RoleAwaited(waited time.Duration) { m.wait.Observe(waited.Seconds()) }

// RoleCalled implements [objectstore.Recorder].
func (m *roleMetrics) RoleCalled() (ended func(error)) {
	m.misses.Inc()
	m.inFlight.Inc()
	start := time.Now()
	return func(err error) {
		m.inFlight.Dec()
		m.duration.Observe(time.Since(start).Seconds())
		if err != nil {
			m.failures.Inc()
		}
	}
}
