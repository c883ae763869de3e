package fleeting

import (
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/metrics"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// The values that options select when they are not given or not positive.
const (
	// DefaultUpdateInterval is the time between two updates while nothing is expected to change.
	DefaultUpdateInterval = time.Minute
	// DefaultUpdateIntervalWhenExpecting is the time between two updates while changes are expected.
	DefaultUpdateIntervalWhenExpecting = 2 * time.Second
	// DefaultDeletionRetryInterval is the time after which a deletion without effect is repeated.
	DefaultDeletionRetryInterval = time.Minute
	// DefaultShutdownDeletionInterval is the time given to one attempt of deletion at shutdown.
	DefaultShutdownDeletionInterval = 10 * time.Second
	// DefaultShutdownDeletionRetries is the number of attempts of deletion at shutdown.
	DefaultShutdownDeletionRetries = 3
)

// Option changes a setting of a Provisioner.
type Option func(*options)

type options struct {
	maxSize                     int
	settings                    provider.Settings
	subscribers                 []func([]Instance)
	updateInterval              time.Duration
	updateIntervalWhenExpecting time.Duration
	deletionRetryInterval       time.Duration
	shutdownDeletionInterval    time.Duration
	shutdownDeletionRetries     int
	deleteOnShutdown            bool
	collector                   metrics.Collector
}

func newOptions(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	o.updateInterval = positive(o.updateInterval, DefaultUpdateInterval)
	o.updateIntervalWhenExpecting = positive(o.updateIntervalWhenExpecting, DefaultUpdateIntervalWhenExpecting)
	o.deletionRetryInterval = positive(o.deletionRetryInterval, DefaultDeletionRetryInterval)
	o.shutdownDeletionInterval = positive(o.shutdownDeletionInterval, DefaultShutdownDeletionInterval)
	o.shutdownDeletionRetries = positive(o.shutdownDeletionRetries, DefaultShutdownDeletionRetries)
	if o.collector == nil {
		o.collector = metrics.NewNoop()
	}
	return o
}

func positive[T int | time.Duration](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}

// WithMaxSize limits the number of instances, counted in any state. The group's own maximum holds
// beside it: the smaller one wins.
func WithMaxSize(size int) Option {
	return func(o *options) { o.maxSize = size }
}

// WithInstanceGroupSettings sets what the operator configured for connections to the instances.
func WithInstanceGroupSettings(settings provider.Settings) Option {
	return func(o *options) { o.settings = settings }
}

// WithSubscriber adds a function that is told of every instance whose state changed, its final event
// (deleted or timeout) included. It is called from the provisioner's only goroutine: while it blocks,
// nothing is provisioned. May be given several times.
func WithSubscriber(fn func(instances []Instance)) Option {
	return func(o *options) { o.subscribers = append(o.subscribers, fn) }
}

// WithUpdateInterval sets the time between two updates while nothing is expected to change.
func WithUpdateInterval(d time.Duration) Option {
	return func(o *options) { o.updateInterval = d }
}

// WithUpdateIntervalWhenExpecting sets the time between two updates while changes are expected.
func WithUpdateIntervalWhenExpecting(d time.Duration) Option {
	return func(o *options) { o.updateIntervalWhenExpecting = d }
}

// WithDeletionRetryInterval sets the time after which a deletion that had no effect is repeated.
func WithDeletionRetryInterval(d time.Duration) Option {
	return func(o *options) { o.deletionRetryInterval = d }
}

// WithShutdownDeletionInterval sets how long one attempt of deletion at shutdown may take effect.
func WithShutdownDeletionInterval(d time.Duration) Option {
	return func(o *options) { o.shutdownDeletionInterval = d }
}

// WithShutdownDeletionRetries sets the number of attempts of deletion at shutdown.
func WithShutdownDeletionRetries(n int) Option {
	return func(o *options) { o.shutdownDeletionRetries = n }
}

// WithDeleteInstancesOnShutdown has Shutdown delete all instances but the suspended ones.
func WithDeleteInstancesOnShutdown() Option {
	return func(o *options) { o.deleteOnShutdown = true }
}

// WithMetricsCollector sets the receiver of the provisioner's figures.
func WithMetricsCollector(c metrics.Collector) Option {
	return func(o *options) { o.collector = c }
}
