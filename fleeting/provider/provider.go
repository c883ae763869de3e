// Package provider is the contract between the fleeting library and a plugin: the group of
// instances a plugin manages, the states an instance passes through and what is needed to connect
// to one. It holds types only; every other package of the module, and every plugin, imports it.
package provider

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/go-hclog"
)

// InstanceGroup is implemented by a plugin. The library calls its methods from one goroutine, with
// the exception of ConnectInfo and Heartbeat, which may be called at any time after Init. Every
// call is bounded by its context.
type InstanceGroup interface {
	// Init is called once, before anything else and after the plugin's JSON configuration was
	// decoded into the implementing value. Its error is final.
	Init(ctx context.Context, logger hclog.Logger, settings Settings) (ProviderInfo, error)

	// Update reports the whole group by calling fn once per instance. After an error the snapshot
	// is discarded.
	Update(ctx context.Context, fn func(instance string, state State)) error

	// Increase asks for n more instances and returns how many requests were accepted. The count
	// holds even if err is not nil.
	Increase(ctx context.Context, n int) (succeeded int, err error)

	// Decrease asks for the deletion of exactly these instances and returns those whose deletion
	// was accepted or is already under way. The ids hold even if err is not nil.
	Decrease(ctx context.Context, instances []string) (succeeded []string, err error)

	// ConnectInfo returns what is needed to connect to an instance. Values the operator configured
	// win over those the plugin finds out.
	ConnectInfo(ctx context.Context, instance string) (ConnectInfo, error)

	// Heartbeat returns nil for a healthy instance. It is a cheap status look-up, not a login. Every error counts
	// against the instance, so a provider that does not answer should be none.
	Heartbeat(ctx context.Context, instance string) error

	// Suspend stops instances and keeps their disks. It is called only with CapabilitySuspendResume
	// and returns the ids that were accepted.
	Suspend(ctx context.Context, instances []string) (succeeded []string, err error)

	// Resume starts suspended instances again. It is called only with CapabilitySuspendResume and
	// returns the ids that were accepted.
	Resume(ctx context.Context, instances []string) (succeeded []string, err error)

	// Shutdown is the last call. It undoes what Init made and deletes no instances.
	Shutdown(ctx context.Context) error
}

// State is where an instance is in its life.
type State string

// The states of an instance. Creating, Deleting, Suspending and Resuming pass by themselves; Running
// and Suspended rest; Deleted and Timeout are final (Timeout: gone without having been deleted by us).
const (
	StateCreating   State = "creating"
	StateRunning    State = "running"
	StateDeleting   State = "deleting"
	StateDeleted    State = "deleted"
	StateTimeout    State = "timeout"
	StateSuspending State = "suspending"
	StateSuspended  State = "suspended"
	StateResuming   State = "resuming"
)

// Capability is an optional ability that a plugin declares in ProviderInfo.
type Capability string

// CapabilitySuspendResume says that Suspend and Resume work.
const CapabilitySuspendResume Capability = "suspend_resume"

// ProviderInfo describes an initialised group.
type ProviderInfo struct {
	// ID names the group in logs, for example "hetzner/fsn1/my-group".
	ID string
	// MaxSize is the hard ceiling of the group, in instances.
	MaxSize int
	// Version and BuildInfo describe the plugin's binary.
	Version   string
	BuildInfo string
	// Capabilities lists the optional abilities of the plugin.
	Capabilities []Capability
}

// Settings is what the operator configured for every instance of the group.
type Settings struct {
	ConnectorConfig
}

// ConnectorConfig is how to connect to an instance. Empty fields are filled by the plugin.
type ConnectorConfig struct {
	OS           string   `json:"os"`
	Arch         string   `json:"arch"`
	Protocol     Protocol `json:"protocol"`
	ProtocolPort int      `json:"protocol_port"`
	Username     string   `json:"username"`
	Password     string   `json:"password"`
	// Key is a private key in PEM form.
	Key []byte `json:"key"`
	// UseStaticCredentials tells the plugin not to provision credentials of its own.
	UseStaticCredentials bool `json:"use_static_credentials"`
	// Keepalive is the interval of keep-alive messages on a connection; 0 selects the default.
	Keepalive time.Duration `json:"keepalive"`
	// Timeout bounds the establishment of a connection, retries included; 0 selects the default.
	Timeout time.Duration `json:"timeout"`
}

// ConnectInfo is the connection data of one instance.
type ConnectInfo struct {
	ConnectorConfig

	ID           string
	ExternalAddr string
	InternalAddr string

	// HostKeys are the SSH host keys the instance may present, in authorized_keys form. Empty means
	// that the key is trusted on first use. Not part of the public API that plugins were written
	// to; a plugin that knows the keys should fill it.
	HostKeys []string
}

// Protocol is how commands are run on an instance.
type Protocol string

// The known protocols.
const (
	ProtocolSSH        Protocol = "ssh"
	ProtocolWinRM      Protocol = "winrm"
	ProtocolWinRMHttps Protocol = "winrm+https"
)

// DefaultProtocolPorts are the ports used when none is configured.
var DefaultProtocolPorts = map[Protocol]int{
	ProtocolSSH:        22,
	ProtocolWinRM:      5985,
	ProtocolWinRMHttps: 5986,
}

var (
	// ErrInstanceUnhealthy is wrapped by Heartbeat implementations. Across the plugin boundary only
	// its text survives.
	ErrInstanceUnhealthy = errors.New("instance unhealthy")

	// ErrSuspendResumeNotSupported is returned by Suspend and Resume of a plugin without
	// CapabilitySuspendResume.
	ErrSuspendResumeNotSupported = errors.New("suspend and resume are not supported")

	// ErrCapabilityNotSupported is the more general name of ErrSuspendResumeNotSupported.
	ErrCapabilityNotSupported = ErrSuspendResumeNotSupported
)
