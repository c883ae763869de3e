package taskscaler

import (
	"context"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	fleetingmetrics "gitlab.com/gitlab-org/fleeting/fleeting/metrics"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler/metrics"
)

//go:generate go run github.com/vektra/mockery/v3@v3.9.0 --config .mockery.yaml

// Taskscaler hands out slots on instances and keeps as many instances as that needs. All methods are
// safe for concurrent use, also from within an UpFunc.
type Taskscaler interface {
	// Reserve announces the task with the given key, or refuses it with an error that wraps
	// ErrNoCapacity. An accepted announcement keeps idle slots from being removed and later ones from
	// being accepted; it creates no instances. It ends with Acquire or Unreserve. Announcing a key
	// twice has the effect of once.
	Reserve(key string) error
	// Unreserve withdraws an announcement. An unknown key has no effect.
	Unreserve(key string)

	// Acquire gets a slot for a task, announced or not, first come, first served. It returns at once
	// if one is free, else it has instances created as needed and waits until ctx ends; then the error
	// is that of ctx. It is an error if the key waits or has a slot already.
	Acquire(ctx context.Context, key string) (Acquisition, error)
	// Release gives the slot of a task back. An unknown key has no effect.
	Release(key string)
	// Get returns the acquisition of a key, or nil if it has none.
	Get(key string) Acquisition

	// Suspend ends the contexts of an acquisition, with cause ErrAcquisitionSuspended, and keeps its
	// slot. Its instance is suspended when no active acquisition is left on it. It fails for an unknown
	// key and with provider.ErrSuspendResumeNotSupported.
	Suspend(key string) error
	// Resume has the instance of a suspended acquisition resumed, waits until it runs and returns the
	// acquisition, active again with the same slot. If that fails or ctx ends, the acquisition stays
	// suspended and Resume may be called again; if the instance is gone, it is removed.
	Resume(ctx context.Context, key string) (Acquisition, error)
	// HasCapability tells whether the instance group has an optional ability.
	HasCapability(capability provider.Capability) bool

	// ConfigureSchedule replaces all schedules. After an error the old ones stay in force.
	ConfigureSchedule(schedules ...Schedule) error
	// Schedule returns the schedule in force now.
	Schedule() Schedule
	// Capacity returns the number of idle slots less the announced tasks, which may be negative, and
	// the number of slots that are coming or could be created.
	Capacity() (available, potential int)

	// Shutdown ends all scaling and every waiting call, shuts the provisioner down, which deletes the
	// instances if so configured, and stores what must be known after a restart. It returns when that
	// is done or ctx ends. Acquisitions stay as they are; suspended ones are not waited for.
	Shutdown(ctx context.Context)

	// MetricsCollector returns the receiver of the scaler's figures.
	MetricsCollector() metrics.Collector
	// FleetingMetricsCollector returns the receiver of the provisioner's figures.
	FleetingMetricsCollector() fleetingmetrics.Collector
}

// InstanceReporter is implemented by the Taskscaler that New returns.
type InstanceReporter interface {
	// ReportLost says that an instance is out of reach, for example because the connection to it broke
	// and cannot be restored. The contexts of its acquisitions end with a cause that wraps
	// ErrInstanceUnexpectedlyRemoved and the given one, nothing more is placed on it, and it is deleted
	// when its acquisitions are released. An unknown instance has no effect.
	ReportLost(instanceID string, cause error)
}

// Acquisition is a slot on an instance. All methods are safe for concurrent use.
type Acquisition interface {
	// Key is the key of the task.
	Key() string
	// Slot is the number of the slot, from 0 to the capacity of an instance less 1. It stays the same
	// as long as the acquisition exists.
	Slot() int
	// InstanceID is the id of the instance.
	InstanceID() string
	// InstanceConnectInfo returns how to connect to the instance, as it is now. It fails if the
	// acquisition is suspended or lost.
	InstanceConnectInfo(ctx context.Context) (provider.ConnectInfo, error)
	// WithContext returns a context that ends with ctx, with the returned function, or when the
	// acquisition is lost or suspended. context.Cause tells which.
	WithContext(ctx context.Context) (context.Context, context.CancelFunc)
}

// UpFunc makes a running instance ready for tasks. It is called once for every instance, those found
// at start included, in a goroutine of its own, and may take its time. After an error the instance is
// removed. Shutdown waits for it: it has to end when its owner shuts down.
type UpFunc func(ts Taskscaler, instance UpFuncInstance) error

// UpFuncInstance is the instance that an UpFunc makes ready.
type UpFuncInstance struct {
	// ID is the id of the instance.
	ID string
	// Info is how to connect to it.
	Info provider.ConnectInfo
	// Cause is why it exists.
	Cause fleeting.Cause
	// Restored tells that it is known from before a restart.
	Restored bool
	// Acquisitions are the keys of the tasks that were active on it before the restart. They hold their
	// slots until they are released.
	Acquisitions []string
	// UsedCount is how many tasks it got before the restart.
	UsedCount int
	// Life ends when the instance is lost or its deletion is asked for, and at the latest with the scaler. Nothing needs
	// to be done on it after that; what its address belongs to by then is another question.
	Life context.Context
}

// HeartbeatFunc checks, each time before a task is placed on an instance, that the instance is fit for
// it. The caller bounds the time by ctx. After an error another instance is tried.
type HeartbeatFunc func(ctx context.Context, info provider.ConnectInfo) error
