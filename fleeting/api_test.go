package fleeting_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
	"gitlab.com/gitlab-org/fleeting/fleeting/metrics"
	"gitlab.com/gitlab-org/fleeting/fleeting/plugin"
	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// examplePlugin uses the module the way public plugins do. It is here to be compiled: a change of a
// signature it relies on breaks every plugin.
type examplePlugin struct {
	Name   string `json:"name"`
	Region string `json:"region"`

	log      hclog.Logger
	settings provider.Settings
}

var _ provider.InstanceGroup = (*examplePlugin)(nil)

var exampleVersion = plugin.VersionInfo{Name: "fleeting-plugin-example", Version: "v1.2.3", Revision: "HEAD", Reference: "HEAD", BuiltAt: "now"}

func (e *examplePlugin) Init(_ context.Context, log hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	e.log = log.With("region", e.Region)
	e.settings = settings
	if settings.Protocol == provider.ProtocolWinRM || e.settings.ConnectorConfig.Key != nil {
		return provider.ProviderInfo{}, fmt.Errorf("unsupported connector config protocol: %s", settings.Protocol)
	}
	return provider.ProviderInfo{
		ID:           path.Join("example", e.Region, e.Name),
		MaxSize:      math.MaxInt,
		Version:      exampleVersion.String(),
		BuildInfo:    exampleVersion.BuildInfo(),
		Capabilities: []provider.Capability{provider.CapabilitySuspendResume},
	}, nil
}

func (e *examplePlugin) Update(_ context.Context, fn func(instance string, state provider.State)) error {
	for id, state := range map[string]provider.State{
		"1": provider.StateCreating, "2": provider.StateRunning, "3": provider.StateDeleting, "4": provider.StateDeleted,
		"5": provider.StateTimeout, "6": provider.StateSuspending, "7": provider.StateSuspended, "8": provider.StateResuming,
	} {
		fn(id, state)
	}
	return nil
}

func (e *examplePlugin) Increase(_ context.Context, n int) (succeeded int, err error) { return n, nil }

func (e *examplePlugin) Decrease(_ context.Context, instances []string) ([]string, error) {
	return instances, nil
}

func (e *examplePlugin) ConnectInfo(_ context.Context, instance string) (provider.ConnectInfo, error) {
	info := provider.ConnectInfo{ConnectorConfig: e.settings.ConnectorConfig}
	info.ID, info.ExternalAddr, info.InternalAddr = instance, "203.0.113.1", "10.0.0.1"
	if info.Protocol == "" {
		info.Protocol = provider.Protocol("ssh")
	}
	if info.ProtocolPort == 0 {
		info.ProtocolPort = provider.DefaultProtocolPorts[info.Protocol]
	}
	return info, nil
}

func (e *examplePlugin) Heartbeat(context.Context, string) error {
	return fmt.Errorf("stopped: %w", provider.ErrInstanceUnhealthy)
}

func (e *examplePlugin) Suspend(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

func (e *examplePlugin) Resume(context.Context, []string) ([]string, error) {
	return nil, provider.ErrCapabilityNotSupported
}

func (e *examplePlugin) Shutdown(context.Context) error { return nil }

// The signatures that plugins, taskscaler and GitLab Runner rely on.
var (
	_ func(provider.InstanceGroup)                                                                                   = plugin.Serve
	_ func(provider.InstanceGroup, plugin.VersionInfo)                                                               = plugin.Main
	_ func(plugin.VersionInfo) string                                                                                = plugin.VersionInfo.Full
	_ func(string, []byte, ...fleeting.PluginOption) (*fleeting.Runner, error)                                       = fleeting.RunPlugin
	_ func(hclog.Logger) fleeting.PluginOption                                                                       = fleeting.WithPluginLogger
	_ func(*fleeting.Runner) provider.InstanceGroup                                                                  = (*fleeting.Runner).InstanceGroup
	_ func(*fleeting.Runner)                                                                                         = (*fleeting.Runner).Kill
	_ func(context.Context, hclog.Logger, provider.InstanceGroup, ...fleeting.Option) (*fleeting.Provisioner, error) = fleeting.Init
	_ func(*fleeting.Provisioner, context.Context)                                                                   = (*fleeting.Provisioner).Shutdown
	_ func(*testing.T, string, string) string                                                                        = integration.BuildPluginBinary
	_ func(*testing.T, string, integration.Config)                                                                   = integration.TestProvisioning
	_ metrics.Collector                                                                                              = metrics.NewNoop()

	_ = integration.Config{
		PluginConfig:    dummyConfig{MaxSize: 3},
		ConnectorConfig: provider.ConnectorConfig{Timeout: 10 * time.Minute},
		MaxInstances:    3,
		UseExternalAddr: true,
	}
	_ = []time.Duration{
		fleeting.DefaultUpdateInterval, fleeting.DefaultUpdateIntervalWhenExpecting,
		fleeting.DefaultDeletionRetryInterval, fleeting.DefaultShutdownDeletionInterval,
	}
	_ int = fleeting.DefaultShutdownDeletionRetries
	_     = []provider.Protocol{provider.ProtocolSSH, provider.ProtocolWinRM, provider.ProtocolWinRMHttps}
)

type dummyConfig struct{ MaxSize int }

func TestPublicPluginsFindWhatTheyUse(t *testing.T) {
	options := []fleeting.Option{
		fleeting.WithMaxSize(9),
		fleeting.WithUpdateInterval(100 * time.Millisecond),
		fleeting.WithUpdateIntervalWhenExpecting(50 * time.Millisecond),
		fleeting.WithDeletionRetryInterval(100 * time.Millisecond),
		fleeting.WithShutdownDeletionInterval(0),
		fleeting.WithShutdownDeletionRetries(0),
		fleeting.WithInstanceGroupSettings(provider.Settings{ConnectorConfig: provider.ConnectorConfig{Username: "u"}}),
		fleeting.WithSubscriber(func([]fleeting.Instance) {}),
		fleeting.WithMetricsCollector(metrics.Noop{}),
	}
	p, err := fleeting.Init(t.Context(), nil, &examplePlugin{Name: "n", Region: "r"}, options...)
	require.NoError(t, err)
	defer p.Shutdown(t.Context())
	require.Equal(t, "example/r/n", p.Info().ID)
	require.Equal(t, "v1.2.3", p.Info().Version)
	require.Equal(t, fleeting.Capacity{Max: 9, Creating: 1, Running: 1, Deleting: 1, Suspended: 3}, p.Capacity())
	require.True(t, p.HasCapability(provider.CapabilitySuspendResume))
	for _, i := range p.Instances() {
		require.Equal(t, "preexisted", fmt.Sprint(i.Cause()))
		info, err := i.ConnectInfo(t.Context())
		require.NoError(t, err)
		require.Equal(t, 22, info.ProtocolPort)
		require.ErrorIs(t, i.Heartbeat(t.Context()), provider.ErrInstanceUnhealthy)
	}
}

func TestConnectorConfigIsReadFromJSON(t *testing.T) {
	var config provider.ConnectorConfig
	require.NoError(t, json.Unmarshal([]byte(`{"os":"linux","arch":"amd64","protocol":"ssh","protocol_port":2222,
		"username":"u","password":"p","key":"a2V5","use_static_credentials":true,"keepalive":30000000000,"timeout":600000000000}`), &config))
	require.Equal(t, provider.ConnectorConfig{OS: "linux", Arch: "amd64", Protocol: provider.ProtocolSSH, ProtocolPort: 2222,
		Username: "u", Password: "p", Key: []byte("key"), UseStaticCredentials: true, Keepalive: 30 * time.Second, Timeout: 10 * time.Minute}, config)
}

func TestSentinelsAreOne(t *testing.T) {
	require.True(t, errors.Is(provider.ErrCapabilityNotSupported, provider.ErrSuspendResumeNotSupported))
	require.False(t, provider.ErrCapabilityNotSupported != provider.ErrSuspendResumeNotSupported)
}

func TestDummyIsUsedAsGitLabRunnerDoes(t *testing.T) {
	group := &dummy.InstanceGroup{MaxSize: 1}
	p, err := fleeting.Init(t.Context(), hclog.NewNullLogger(), group, fleeting.WithMaxSize(1),
		fleeting.WithUpdateInterval(10*time.Millisecond), fleeting.WithUpdateIntervalWhenExpecting(10*time.Millisecond))
	require.NoError(t, err)
	defer p.Shutdown(t.Context())
	p.Request(1)
	require.Eventually(t, func() bool {
		for _, inst := range group.List() {
			if inst.State == provider.StateRunning {
				return true
			}
		}
		return false
	}, 10*time.Second, 10*time.Millisecond)
	require.Zero(t, group.CallCount("Decrease"))
}
