package autoscaler

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	fleetingprom "gitlab.com/gitlab-org/fleeting/fleeting/metrics/prometheus"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/fleeting/taskscaler"
	scalerprom "gitlab.com/gitlab-org/fleeting/taskscaler/metrics/prometheus"
	"gitlab.com/gitlab-org/fleeting/taskscaler/storage"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
)

// PluginLauncher starts fleeting plugins.
type PluginLauncher interface {
	// Launch starts the plugin that name refers to and hands it its configuration, as JSON.
	Launch(name string, config []byte, log hclog.Logger) (Plugin, error)
}

// Plugin is a plugin's process.
type Plugin interface {
	InstanceGroup() provider.InstanceGroup
	// Kill ends the process. It is called once the group was shut down.
	Kill()
}

// startTimeout bounds the start of a taskscaler, in which the plugin is initialised.
const startTimeout = time.Minute

// fleet is what one runner entry holds: plugin, taskscaler and connections. What is read from the
// entry at the start stays in force until the process ends; only policies are applied anew.
type fleet struct {
	options Options
	slots   sync.WaitGroup

	// starting serialises start; mu guards what follows.
	starting sync.Mutex
	mu       sync.Mutex
	started  bool
	policies time.Time

	log         logrus.FieldLogger
	plugin      Plugin
	scaler      taskscaler.Taskscaler
	connections *connections
	ready       *readiness
	collectors  []prometheus.Collector
}

func newFleet(o Options) *fleet {
	return &fleet{options: o}
}

// start starts the plugin and the taskscaler, if that was not done yet.
func (f *fleet) start(ctx context.Context, runner *config.Runner) error {
	f.starting.Lock()
	defer f.starting.Unlock()
	f.mu.Lock()
	started := f.started
	f.mu.Unlock()
	if started {
		return nil
	}
	c := runner.Autoscaler
	if c == nil {
		return errNoAutoscalerConfig
	}
	f.log = f.options.Log.WithFields(logrus.Fields{"runner": runner.ShortToken(), "runner_name": runner.Name})
	pluginConfig, err := json.Marshal(c.PluginConfig)
	if err != nil {
		return fmt.Errorf("marshaling plugin config: %w", err)
	}
	settings, err := connectorSettings(c.ConnectorConfig)
	if err != nil {
		return err
	}
	store, err := f.storage(runner)
	if err != nil {
		return fmt.Errorf("creating state storage: %w", err)
	}

	plugin, err := f.options.Plugins.Launch(c.Plugin, pluginConfig, newLogger(f.log, "fleeting-plugin"))
	if err != nil {
		return fmt.Errorf("running autoscaler plugin: %w", err)
	}
	f.connections = newConnections(f.options.Connect, c.ConnectorConfig.UseExternalAddr, f.log)
	f.ready = newReadiness(f, runner)
	ctx, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	scaler, err := taskscaler.New(ctx, plugin.InstanceGroup(), f.scalerOptions(runner, settings, store)...)
	if err != nil {
		f.ready.close()
		f.connections.close()
		plugin.Kill()
		return fmt.Errorf("creating taskscaler: %w", err)
	}
	f.registerMetrics(scaler)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.plugin, f.scaler, f.started = plugin, scaler, true
	return nil
}

// connectorSettings reads the operator's side of the connection data.
func connectorSettings(c config.ConnectorConfig) (provider.Settings, error) {
	settings := provider.Settings{ConnectorConfig: provider.ConnectorConfig{
		OS: c.OS, Arch: c.Arch,
		Protocol: provider.Protocol(c.Protocol), ProtocolPort: c.ProtocolPort,
		Username: c.Username, Password: c.Password,
		UseStaticCredentials: c.UseStaticCredentials,
		Keepalive:            c.Keepalive, Timeout: c.Timeout,
	}}
	if c.KeyPath == "" {
		return settings, nil
	}
	key, err := os.ReadFile(c.KeyPath)
	if err != nil {
		return provider.Settings{}, fmt.Errorf("reading instance group connector key: %w", err)
	}
	settings.Key = key
	return settings, nil
}

func (f *fleet) storage(runner *config.Runner) (storage.Storage, error) {
	c := runner.Autoscaler.StateStorage
	if c == nil || !c.Enabled {
		return nil, nil
	}
	dir := c.Dir
	if dir == "" {
		dir = f.options.StateDir
	}
	return storage.NewFileStorage(filepath.Join(dir, runner.ShortToken()))
}

func (f *fleet) scalerOptions(runner *config.Runner, settings provider.Settings, store storage.Storage) []taskscaler.Option {
	c := runner.Autoscaler
	labels := prometheus.Labels{"runner": runner.ShortToken(), "runner_name": runner.Name, "system_id": runner.SystemID}
	operations := func(specific []float64) []float64 {
		if len(specific) > 0 {
			return specific
		}
		return c.InstanceOperationTimeBuckets
	}
	options := []taskscaler.Option{
		taskscaler.WithReservations(),
		taskscaler.WithCapacityPerInstance(c.CapacityPerInstance),
		taskscaler.WithMaxUseCount(c.MaxUseCount),
		taskscaler.WithMaxInstances(c.MaxInstances),
		taskscaler.WithInstanceGroupSettings(settings),
		taskscaler.WithInstanceUpFunc(f.ready.up),
		taskscaler.WithUpdateInterval(c.UpdateInterval),
		taskscaler.WithUpdateIntervalWhenExpecting(c.UpdateIntervalWhenExpecting),
		taskscaler.WithDeletionRetryInterval(c.DeletionRetryInterval),
		taskscaler.WithShutdownDeletionInterval(c.ShutdownDeletionInterval),
		taskscaler.WithShutdownDeletionRetries(c.ShutdownDeletionRetries),
		taskscaler.WithFailureThreshold(c.FailureThreshold),
		taskscaler.WithLogger(newLogger(f.log, "taskscaler")),
		taskscaler.WithMetricsCollector(scalerprom.New(
			scalerprom.WithConstLabels(labels),
			scalerprom.WithInstanceReadinessTimeBuckets(operations(c.InstanceReadinessTimeBuckets)))),
		taskscaler.WithFleetingMetricsCollector(fleetingprom.New(
			fleetingprom.WithConstLabels(labels),
			fleetingprom.WithInstanceCreationTimeBuckets(operations(c.InstanceCreationTimeBuckets)),
			fleetingprom.WithInstanceIsRunningTimeBuckets(operations(c.InstanceIsRunningTimeBuckets)),
			fleetingprom.WithInstanceDeletionTimeBuckets(operations(c.InstanceDeletionTimeBuckets)),
			fleetingprom.WithInstanceLifeDurationBuckets(c.InstanceLifeDurationBuckets))),
	}
	if throttle := c.ScaleThrottle; throttle != nil {
		options = append(options, taskscaler.WithScaleThrottle(throttle.Limit, throttle.Burst))
	}
	if c.ReservationThrottling == nil || *c.ReservationThrottling {
		options = append(options, taskscaler.WithReservationThrottling())
	}
	if runner.FeatureFlags[featureflags.AcquireHeartbeats] {
		options = append(options, taskscaler.WithHeartbeatFunc(f.connections.heartbeat))
	}
	if store != nil {
		options = append(options, taskscaler.WithStorage(store))
	}
	if c.DeleteInstancesOnShutdown {
		options = append(options, taskscaler.WithDeleteInstancesOnShutdown())
	}
	return options
}

// registerMetrics makes the fleet's metrics visible.
func (f *fleet) registerMetrics(scaler taskscaler.Taskscaler) {
	for _, source := range []any{scaler.MetricsCollector(), scaler.FleetingMetricsCollector()} {
		collector, ok := source.(prometheus.Collector)
		if !ok {
			continue
		}
		if err := f.options.Metrics.Register(collector); err != nil {
			f.log.WithError(err).Warning("the autoscaler's metrics are not shown")
			continue
		}
		f.collectors = append(f.collectors, collector)
	}
}

// configure applies the entry's policies if it was loaded anew.
func (f *fleet) configure(runner *config.Runner) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.policies.IsZero() && f.policies.Equal(runner.LoadedAt) {
		return nil
	}
	if runner.Autoscaler == nil {
		return errNoAutoscalerConfig
	}
	var schedules []taskscaler.Schedule
	for _, p := range runner.Autoscaler.Policy {
		preemptive := p.IdleCount > 0
		if p.PreemptiveMode != nil {
			preemptive = *p.PreemptiveMode
		}
		schedules = append(schedules, taskscaler.Schedule{
			Periods: p.Periods, Timezone: p.Timezone,
			IdleCount: p.IdleCount, IdleTime: p.IdleTime,
			ScaleFactor: p.ScaleFactor, ScaleFactorLimit: p.ScaleFactorLimit,
			PreemptiveMode: preemptive,
		})
	}
	if err := f.scaler.ConfigureSchedule(schedules...); err != nil {
		return err
	}
	f.policies = runner.LoadedAt
	return nil
}

// reserve reserves a slot under a key of its own.
func (f *fleet) reserve(runner *config.Runner) (common.Slot, error) {
	var unique [8]byte
	if _, err := rand.Read(unique[:]); err != nil {
		return nil, fmt.Errorf("making a reservation key: %w", err)
	}
	key := runner.ShortToken() + hex.EncodeToString(unique[:])
	if err := f.scaler.Reserve(key); err != nil {
		if errors.Is(err, taskscaler.ErrNoCapacity) {
			return nil, noCapacity{err}
		}
		return nil, fmt.Errorf("reserving taskscaler capacity: %w", err)
	}
	f.slots.Add(1)
	f.log.WithField("key", key).Trace("Reserved capacity...")
	return &slot{fleet: f, runner: runner, key: key}, nil
}

// drain waits until every slot was released.
func (f *fleet) drain() { f.slots.Wait() }

// shutdown gives everything up. Ready functions are ended first, the plugin last: it must live to be
// told of the shutdown.
func (f *fleet) shutdown(ctx context.Context) {
	f.starting.Lock()
	defer f.starting.Unlock()
	f.mu.Lock()
	started := f.started
	f.started = false
	f.mu.Unlock()
	if !started {
		return
	}
	f.ready.close()
	f.scaler.Shutdown(ctx)
	f.connections.close()
	f.plugin.Kill()
	for _, collector := range f.collectors {
		f.options.Metrics.Unregister(collector)
	}
}
