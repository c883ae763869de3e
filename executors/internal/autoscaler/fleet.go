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
// entry at the start stays in force until the process ends; only policies are applied anew, and images
// are fetched for jobs of the entry as it is now.
type fleet struct {
	options Options
	log     logrus.FieldLogger
	// gate counts reserved slots, and requests for them.
	gate *gate
	// group tells instance groups apart, see config.Autoscaler.Group.
	group            string
	deletesInstances bool

	// starting serialises start and shutdown.
	starting sync.Mutex

	// mu guards what follows, up to the blank line.
	mu      sync.Mutex
	started bool
	ended   bool
	// first is the entry that the fleet was started with, current the one in force.
	first, current *config.Runner
	scaler         taskscaler.Taskscaler

	plugin      Plugin
	connections *connections
	ready       *readiness
	collectors  []prometheus.Collector
}

func newFleet(o Options, runner *config.Runner) *fleet {
	f := &fleet{
		options: o,
		gate:    newGate(),
		log:     o.Log.WithFields(logrus.Fields{"runner": runner.ShortToken(), "runner_name": runner.Name}),
	}
	if c := runner.Autoscaler; c != nil {
		f.group, f.deletesInstances = c.Group(), c.DeleteInstancesOnShutdown
	}
	return f
}

// acquire reserves a slot, after starting and configuring what that takes.
func (f *fleet) acquire(ctx context.Context, runner *config.Runner) (*slot, error) {
	if runner.Autoscaler == nil {
		return nil, fmt.Errorf("initializing taskscaler: %w", errNoAutoscalerConfig)
	}
	if isolation := runner.Autoscaler.VMIsolation; isolation != nil && isolation.Enabled {
		return nil, fmt.Errorf("initializing taskscaler: %w", errVMIsolation)
	}
	if err := f.start(ctx, runner); err != nil {
		return nil, fmt.Errorf("initializing taskscaler: %w", err)
	}
	if err := f.configure(runner); err != nil {
		return nil, fmt.Errorf("configuring taskscaler schedules: %w", err)
	}
	return f.reserve(runner)
}

// start starts the plugin and the taskscaler, if that was not done yet.
func (f *fleet) start(ctx context.Context, runner *config.Runner) error {
	f.starting.Lock()
	defer f.starting.Unlock()
	f.mu.Lock()
	started, ended := f.started, f.ended
	f.mu.Unlock()
	switch {
	case started:
		return nil
	case ended:
		return errShuttingDown
	}
	c := runner.Autoscaler
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
	f.connections.onLost = f.lost
	ctx, stop := context.WithTimeout(ctx, startTimeout)
	defer stop()
	scaler, err := taskscaler.New(ctx, plugin.InstanceGroup(), f.scalerOptions(runner, settings, store)...)
	if err != nil {
		f.ready.end()
		f.ready.wait()
		f.connections.close()
		plugin.Kill()
		return fmt.Errorf("creating taskscaler: %w", err)
	}
	f.registerMetrics(scaler)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.plugin, f.scaler, f.started, f.first = plugin, scaler, true, runner
	return nil
}

// reloaded tells the operator which changes of the entry have no effect on the running fleet.
func (f *fleet) reloaded(runner *config.Runner) {
	f.mu.Lock()
	started, first := f.started, f.first
	f.mu.Unlock()
	if !started || runner.Autoscaler == nil {
		return
	}
	for _, key := range runner.Autoscaler.Frozen(first.Autoscaler) {
		f.log.WithField("key", "runners.autoscaler."+key).Warning("The key was changed, which has no effect before a restart: the fleet keeps what it was started with")
	}
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

// configure applies the entry's policies if it was loaded anew. A request that began before a reload
// does not bring the former ones back.
func (f *fleet) configure(runner *config.Runner) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil && !runner.LoadedAt.After(f.current.LoadedAt) {
		return nil
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
	f.current = runner
	return nil
}

// reserve reserves a slot under a key of its own.
func (f *fleet) reserve(runner *config.Runner) (*slot, error) {
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
	f.log.WithField("key", key).Trace("Reserved capacity...")
	return &slot{fleet: f, runner: runner, key: key}, nil
}

// entry is the runner entry in force.
func (f *fleet) entry() *config.Runner {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current
}

// inspector is what shows the taskscaler's state and the entry it belongs to, nil before the start and
// after the end.
func (f *fleet) inspector() (taskscaler.Inspector, *config.Runner) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.started {
		return nil, nil
	}
	inspector, _ := f.scaler.(taskscaler.Inspector)
	return inspector, f.current
}

// lost tells the taskscaler that an instance is gone before the plugin does.
func (f *fleet) lost(instance string, cause error) {
	f.mu.Lock()
	scaler := f.scaler
	f.mu.Unlock()
	if reporter, ok := scaler.(taskscaler.InstanceReporter); ok {
		reporter.ReportLost(instance, cause)
	}
}

// shutdown gives everything up, for good. Ready functions are told first, because the taskscaler waits
// for them; connections last as long as they may be used; the plugin goes last: it must live to be told
// of the shutdown.
func (f *fleet) shutdown(ctx context.Context) {
	f.starting.Lock()
	defer f.starting.Unlock()
	f.mu.Lock()
	started := f.started
	f.started, f.ended = false, true
	f.mu.Unlock()
	if !started {
		return
	}
	f.ready.end()
	f.scaler.Shutdown(ctx)
	f.ready.wait()
	f.connections.close()
	f.plugin.Kill()
	for _, collector := range f.collectors {
		f.options.Metrics.Unregister(collector)
	}
}
