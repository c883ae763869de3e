package config

import (
	"reflect"
	"strings"
	"time"
)

// Autoscaler is [runners.autoscaler]. Zero durations and counts select the defaults of the fleeting
// and taskscaler libraries.
type Autoscaler struct {
	Plugin              string `toml:"plugin"`
	CapacityPerInstance int    `toml:"capacity_per_instance"`
	MaxUseCount         int    `toml:"max_use_count"`
	MaxInstances        int    `toml:"max_instances"`

	InstanceReadyCommand        string        `toml:"instance_ready_command,omitempty"`
	InstanceAcquireTimeout      time.Duration `toml:"instance_acquire_timeout,omitzero"`
	UpdateInterval              time.Duration `toml:"update_interval,omitzero"`
	UpdateIntervalWhenExpecting time.Duration `toml:"update_interval_when_expecting,omitzero"`
	DeletionRetryInterval       time.Duration `toml:"deletion_retry_interval,omitzero"`
	ShutdownDeletionInterval    time.Duration `toml:"shutdown_deletion_interval,omitzero"`
	ShutdownDeletionRetries     int           `toml:"shutdown_deletion_retries,omitzero"`
	FailureThreshold            int           `toml:"failure_threshold,omitzero"`
	DeleteInstancesOnShutdown   bool          `toml:"delete_instances_on_shutdown,omitempty"`
	ReservationThrottling       *bool         `toml:"reservation_throttling,omitempty"`
	// PrefetchImages are pulled onto an instance while it idles, after the helper image and the entry's
	// default image. The key is our own.
	PrefetchImages []string `toml:"prefetch_images,omitempty"`
	// PrefetchRecentImages is how many of the images that the entry's recent jobs used are pulled after
	// those; 0 is none. The key is our own.
	PrefetchRecentImages int  `toml:"prefetch_recent_images,omitzero"`
	LogInternalIP        bool `toml:"log_internal_ip,omitempty"`
	LogExternalIP        bool `toml:"log_external_ip,omitempty"`

	InstanceOperationTimeBuckets []float64 `toml:"instance_operation_time_buckets,omitempty"`
	InstanceCreationTimeBuckets  []float64 `toml:"instance_creation_time_buckets,omitempty"`
	InstanceIsRunningTimeBuckets []float64 `toml:"instance_is_running_time_buckets,omitempty"`
	InstanceDeletionTimeBuckets  []float64 `toml:"instance_deletion_time_buckets,omitempty"`
	InstanceReadinessTimeBuckets []float64 `toml:"instance_readiness_time_buckets,omitempty"`
	InstanceLifeDurationBuckets  []float64 `toml:"instance_life_duration_buckets,omitempty"`

	PluginConfig    map[string]any  `toml:"plugin_config,omitempty"`
	ConnectorConfig ConnectorConfig `toml:"connector_config,omitempty"`
	Policy          []Policy        `toml:"policy,omitempty"`
	ScaleThrottle   *ScaleThrottle  `toml:"scale_throttle,omitempty"`
	StateStorage    *StateStorage   `toml:"state_storage,omitempty"`
	VMIsolation     *VMIsolation    `toml:"vm_isolation,omitempty"`
}

// followed are the keys that a running fleet follows at a reload. It has no vm_isolation: jobs are refused with it.
var followed = map[string]bool{
	"policy": true, "instance_acquire_timeout": true, "prefetch_images": true, "prefetch_recent_images": true,
	"log_internal_ip": true, "log_external_ip": true, "vm_isolation": true,
}

// Frozen returns the keys in which a differs from other although a running fleet does not follow them: what it was
// started with stays in force until the process ends.
func (a *Autoscaler) Frozen(other *Autoscaler) []string {
	var keys []string
	mine, others := reflect.ValueOf(*a), reflect.ValueOf(*other)
	for i := range mine.NumField() {
		key, _, _ := strings.Cut(mine.Type().Field(i).Tag.Get("toml"), ",")
		if !followed[key] && !reflect.DeepEqual(mine.Field(i).Interface(), others.Field(i).Interface()) {
			keys = append(keys, key)
		}
	}
	return keys
}

// ConnectorConfig says how to reach an instance. Empty keys are filled by the plugin.
type ConnectorConfig struct {
	OS                   string        `toml:"os,omitempty"`
	Arch                 string        `toml:"arch,omitempty"`
	Protocol             string        `toml:"protocol,omitempty"`
	ProtocolPort         int           `toml:"protocol_port,omitzero"`
	Username             string        `toml:"username,omitempty"`
	Password             string        `toml:"password,omitempty"`
	KeyPath              string        `toml:"key_path,omitempty"`
	UseStaticCredentials bool          `toml:"use_static_credentials,omitempty"`
	Keepalive            time.Duration `toml:"keepalive,omitzero"`
	Timeout              time.Duration `toml:"timeout,omitzero"`
	UseExternalAddr      bool          `toml:"use_external_addr,omitempty"`
}

// Policy is one [[runners.autoscaler.policy]]. IdleCount is in jobs, not instances.
type Policy struct {
	Periods          []string      `toml:"periods,omitempty"`
	Timezone         string        `toml:"timezone,omitempty"`
	IdleCount        int           `toml:"idle_count"`
	IdleTime         time.Duration `toml:"idle_time"`
	ScaleFactor      float64       `toml:"scale_factor,omitzero"`
	ScaleFactorLimit int           `toml:"scale_factor_limit,omitzero"`
	PreemptiveMode   *bool         `toml:"preemptive_mode,omitempty"`
}

// ScaleThrottle bounds how fast instances are created: Limit per second, Burst at once.
type ScaleThrottle struct {
	Limit int `toml:"limit"`
	Burst int `toml:"burst"`
}

// StateStorage keeps the state of instances on disk between runs of the manager.
type StateStorage struct {
	Enabled                      bool   `toml:"enabled"`
	Dir                          string `toml:"dir,omitempty"`
	KeepInstanceWithAcquisitions bool   `toml:"keep_instance_with_acquisitions,omitempty"`
}

// VMIsolation runs each job in a virtual machine nested in the instance.
type VMIsolation struct {
	Enabled         bool            `toml:"enabled"`
	NestingHost     string          `toml:"nesting_host,omitempty"`
	NestingConfig   map[string]any  `toml:"nesting_config,omitempty"`
	Image           string          `toml:"image,omitempty"`
	ConnectorConfig ConnectorConfig `toml:"connector_config,omitempty"`
}
