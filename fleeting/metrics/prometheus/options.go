package prometheus

import "github.com/prometheus/client_golang/prometheus"

// Option changes a setting of a Collector.
type Option func(*settings)

type settings struct {
	constLabels                                             prometheus.Labels
	creationTime, isRunningTime, deletionTime, lifeDuration []float64
}

func newSettings(options []Option) settings {
	s := settings{
		creationTime:  seconds(1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600),
		isRunningTime: seconds(1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600),
		deletionTime:  seconds(1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600),
		lifeDuration:  seconds(60, 300, 600, 900, 1800, 3600, 2*3600, 4*3600, 8*3600, 24*3600, 7*24*3600),
	}
	for _, option := range options {
		option(&s)
	}
	return s
}

func seconds(bounds ...float64) []float64 { return bounds }

// WithConstLabels adds labels to all metrics.
func WithConstLabels(labels prometheus.Labels) Option {
	return func(s *settings) { s.constLabels = labels }
}

// WithInstanceCreationTimeBuckets sets the upper bounds, in seconds, of the buckets for the time from
// request to discovery. No bounds select the default.
func WithInstanceCreationTimeBuckets(buckets []float64) Option {
	return withBuckets(buckets, func(s *settings) *[]float64 { return &s.creationTime })
}

// WithInstanceIsRunningTimeBuckets sets the upper bounds, in seconds, of the buckets for the time from
// request to running. No bounds select the default.
func WithInstanceIsRunningTimeBuckets(buckets []float64) Option {
	return withBuckets(buckets, func(s *settings) *[]float64 { return &s.isRunningTime })
}

// WithInstanceDeletionTimeBuckets sets the upper bounds, in seconds, of the buckets for the time from
// asking for a deletion to its end. No bounds select the default.
func WithInstanceDeletionTimeBuckets(buckets []float64) Option {
	return withBuckets(buckets, func(s *settings) *[]float64 { return &s.deletionTime })
}

// WithInstanceLifeDurationBuckets sets the upper bounds, in seconds, of the buckets for the length of
// an instance's life. No bounds select the default.
func WithInstanceLifeDurationBuckets(buckets []float64) Option {
	return withBuckets(buckets, func(s *settings) *[]float64 { return &s.lifeDuration })
}

func withBuckets(buckets []float64, field func(*settings) *[]float64) Option {
	return func(s *settings) {
		if len(buckets) > 0 {
			*field(s) = buckets
		}
	}
}
