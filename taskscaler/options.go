package taskscaler

import (
	"math"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/time/rate"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	fleetingmetrics "gitlab.com/gitlab-org/fleeting/fleeting/metrics"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
	"gitlab.com/gitlab-org/fleeting/taskscaler/metrics"
	"gitlab.com/gitlab-org/fleeting/taskscaler/storage"
)

const (
	defaultFailureThreshold = 3
	defaultScaleLimit       = 100
	unlimitedScale          = -1
)

// Option changes a setting of New.
type Option func(*options)

type options struct {
	fleet        fleet.Config
	scaleLimit   int
	scaleBurst   int
	provisioner  []fleeting.Option
	up           UpFunc
	heartbeat    HeartbeatFunc
	storage      storage.Storage
	logger       hclog.Logger
	collector    metrics.Collector
	fleetMetrics fleetingmetrics.Collector
}

func newOptions(list []Option) options {
	o := options{
		logger:       hclog.NewNullLogger(),
		collector:    metrics.NewNoop(),
		fleetMetrics: fleetingmetrics.NewNoop(),
	}
	for _, option := range list {
		option(&o)
	}
	o.fleet.CapacityPerInstance = max(1, o.fleet.CapacityPerInstance)
	o.fleet.MaxUseCount = max(0, o.fleet.MaxUseCount)
	o.fleet.MaxInstances = max(0, o.fleet.MaxInstances)
	if o.fleet.FailureThreshold <= 0 {
		o.fleet.FailureThreshold = defaultFailureThreshold
	}
	o.fleet.Throttle = newThrottle(o.scaleLimit, o.scaleBurst, o.fleet.MaxInstances)
	return o
}

// newThrottle returns the limiter of instance creation; nil is no limit.
func newThrottle(limit, burst, maxInstances int) *rate.Limiter {
	switch {
	case limit <= unlimitedScale:
		return nil
	case limit == 0:
		limit = defaultScaleLimit
	}
	if burst <= 0 {
		burst = maxInstances
	}
	if burst <= 0 {
		burst = limit
	}
	return rate.NewLimiter(rate.Limit(limit), burst)
}

// WithReservations makes Reserve remember what it accepted. Without it Reserve only answers whether
// there is capacity.
func WithReservations() Option {
	return func(o *options) { o.fleet.Reservations = true }
}

// WithReservationThrottling keeps the reservations below the idle slots by those of one instance, so
// that an instance which is not needed can be removed although somebody asks for work all the time.
func WithReservationThrottling() Option {
	return func(o *options) { o.fleet.ReservationThrottling = true }
}

// WithCapacityPerInstance sets the number of slots of an instance; 0 is 1. An instance never has more
// slots than its maximum use count.
func WithCapacityPerInstance(capacity int) Option {
	return func(o *options) { o.fleet.CapacityPerInstance = capacity }
}

// WithMaxUseCount sets how many tasks an instance gets before it is removed; 0 is no limit.
func WithMaxUseCount(count int) Option {
	return func(o *options) { o.fleet.MaxUseCount = count }
}

// WithMaxInstances limits the instances, counted in every state; 0 leaves that to the group.
func WithMaxInstances(count int) Option {
	return func(o *options) { o.fleet.MaxInstances = count }
}

// WithInstanceGroupSettings sets what the operator configured for connections to the instances.
func WithInstanceGroupSettings(settings provider.Settings) Option {
	return withProvisioner(fleeting.WithInstanceGroupSettings(settings))
}

// WithInstanceUpFunc sets the function that makes instances ready. Without it an instance is ready as
// soon as it runs.
func WithInstanceUpFunc(fn UpFunc) Option {
	return func(o *options) { o.up = fn }
}

// WithHeartbeatFunc sets a check that is made, after the group's own, before each placement.
func WithHeartbeatFunc(fn HeartbeatFunc) Option {
	return func(o *options) { o.heartbeat = fn }
}

// WithFailureThreshold sets after how many consecutive failed health checks an instance is removed; 0
// is 3.
func WithFailureThreshold(count int) Option {
	return func(o *options) { o.fleet.FailureThreshold = count }
}

// WithUpdateInterval sets the time between two updates of the group while nothing is expected to
// change; 0 is fleeting's default.
func WithUpdateInterval(d time.Duration) Option {
	return withProvisioner(fleeting.WithUpdateInterval(d))
}

// WithUpdateIntervalWhenExpecting sets the time between two updates of the group while changes are
// expected; 0 is fleeting's default.
func WithUpdateIntervalWhenExpecting(d time.Duration) Option {
	return withProvisioner(fleeting.WithUpdateIntervalWhenExpecting(d))
}

// WithDeletionRetryInterval sets the time after which a deletion without effect is repeated; 0 is
// fleeting's default.
func WithDeletionRetryInterval(d time.Duration) Option {
	return withProvisioner(fleeting.WithDeletionRetryInterval(d))
}

// WithShutdownDeletionInterval sets how long one attempt of deletion at shutdown may take effect; 0 is
// fleeting's default.
func WithShutdownDeletionInterval(d time.Duration) Option {
	return withProvisioner(fleeting.WithShutdownDeletionInterval(d))
}

// WithShutdownDeletionRetries sets the number of attempts of deletion at shutdown; 0 is fleeting's
// default.
func WithShutdownDeletionRetries(count int) Option {
	return withProvisioner(fleeting.WithShutdownDeletionRetries(count))
}

// WithDeleteInstancesOnShutdown has Shutdown delete all instances but the suspended ones.
func WithDeleteInstancesOnShutdown() Option {
	return withProvisioner(fleeting.WithDeleteInstancesOnShutdown())
}

// WithScaleThrottle limits the creation of instances to a number per second (0 is 100, -1 is no limit)
// after a burst (0 is the maximum number of instances, or the limit where there is none).
func WithScaleThrottle(limit, burst int) Option {
	return func(o *options) { o.scaleLimit, o.scaleBurst = limit, burst }
}

// WithStorage sets where the state of the instances is kept for the time after a restart.
func WithStorage(s storage.Storage) Option {
	return func(o *options) { o.storage = s }
}

// WithLogger sets the logger of the scaler and its provisioner. Without it nothing is logged.
func WithLogger(logger hclog.Logger) Option {
	return func(o *options) {
		if logger != nil {
			o.logger = logger
		}
	}
}

// WithMetricsCollector sets the receiver of the scaler's figures.
func WithMetricsCollector(collector metrics.Collector) Option {
	return func(o *options) {
		if collector != nil {
			o.collector = collector
		}
	}
}

// WithFleetingMetricsCollector sets the receiver of the provisioner's figures.
func WithFleetingMetricsCollector(collector fleetingmetrics.Collector) Option {
	return func(o *options) {
		if collector != nil {
			o.fleetMetrics = collector
		}
	}
}

func withProvisioner(option fleeting.Option) Option {
	return func(o *options) { o.provisioner = append(o.provisioner, option) }
}

// provisionerOptions returns the options of the provisioner, which tells subscriber what changes.
func (o *options) provisionerOptions(subscriber func([]fleeting.Instance)) []fleeting.Option {
	return append([]fleeting.Option{
		fleeting.WithMaxSize(o.fleet.MaxInstances),
		fleeting.WithMetricsCollector(o.fleetMetrics),
		fleeting.WithSubscriber(subscriber),
	}, o.provisioner...)
}

// limitedTo returns the configuration with the maximum that the provisioner found to hold.
func limitedTo(config fleet.Config, maxInstances int) fleet.Config {
	config.MaxInstances = 0
	if maxInstances < math.MaxInt32 {
		config.MaxInstances = maxInstances
	}
	return config
}
