//go:build unix

package pluginhost

import (
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestCallsReachThePluginAndComeBack(t *testing.T) {
	h, _ := startDummy(t, &dummy.InstanceGroup{
		Name: "g", MaxSize: 3, Capabilities: []provider.Capability{provider.CapabilitySuspendResume},
	}, testLimits())
	group, ctx := h.Group(), t.Context()
	settings := provider.Settings{ConnectorConfig: provider.ConnectorConfig{
		OS: "linux", Arch: "arm64", Protocol: provider.ProtocolWinRMHttps, ProtocolPort: 2222, Username: "u",
		Password: "p\xff", Key: []byte("key"), UseStaticCredentials: true, Keepalive: time.Second, Timeout: time.Hour,
	}}
	info, err := group.Init(ctx, hclog.NewNullLogger(), settings)
	require.NoError(t, err)
	require.Equal(t, "dummy/g", info.ID)
	require.Equal(t, 3, info.MaxSize)
	require.Equal(t, "dummy", info.Version)
	require.NotEmpty(t, info.BuildInfo)
	require.Equal(t, []provider.Capability{provider.CapabilitySuspendResume}, info.Capabilities)

	succeeded, err := group.Increase(ctx, 5)
	require.Equal(t, 3, succeeded, "the count holds beside the error")
	require.EqualError(t, err, "the group is full: 3 instances")

	update := func() map[string]provider.State {
		got := map[string]provider.State{}
		require.NoError(t, group.Update(ctx, func(id string, s provider.State) { got[id] = s }))
		return got
	}
	running := provider.StateRunning
	require.Equal(t, map[string]provider.State{"dummy-1": running, "dummy-2": running, "dummy-3": running}, update())

	connect, err := group.ConnectInfo(ctx, "dummy-1")
	require.NoError(t, err)
	require.Equal(t, provider.ConnectInfo{
		ConnectorConfig: settings.ConnectorConfig, ID: "dummy-1", ExternalAddr: "192.0.2.1", InternalAddr: "192.0.2.1",
	}, connect)
	_, err = group.ConnectInfo(ctx, "nobody")
	require.EqualError(t, err, `no such instance: "nobody"`)
	require.NoError(t, group.Heartbeat(ctx, "dummy-1"))
	require.EqualError(t, group.Heartbeat(ctx, "nobody"), `instance "nobody" does not run: instance unhealthy`)

	ids, err := group.Suspend(ctx, []string{"dummy-2"})
	require.NoError(t, err)
	require.Equal(t, []string{"dummy-2"}, ids)
	require.Equal(t, provider.StateSuspended, update()["dummy-2"])
	ids, err = group.Resume(ctx, []string{"dummy-2", "nobody"})
	require.Equal(t, []string{"dummy-2"}, ids)
	require.EqualError(t, err, `no such instances: ["nobody"]`)
	require.Equal(t, running, update()["dummy-2"])

	ids, err = group.Decrease(ctx, []string{"dummy-1", "dummy-3"})
	require.NoError(t, err)
	require.Equal(t, []string{"dummy-1", "dummy-3"}, ids)
	require.Equal(t, map[string]provider.State{"dummy-2": running}, update())
	require.NoError(t, group.Shutdown(ctx))
}

func TestLargeGroupsCrossInOneUpdate(t *testing.T) {
	h, _ := startDummy(t, &dummy.InstanceGroup{Preexisting: 3000}, testLimits())
	initDummy(t, h)
	seen := map[string]bool{}
	require.NoError(t, h.Group().Update(t.Context(), func(id string, _ provider.State) { seen[id] = true }))
	require.Len(t, seen, 3000)
}

func TestErrorsOfThePluginKeepTheirText(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	h, _ := startDummy(t, &dummy.InstanceGroup{Faults: map[string]dummy.Fault{
		"Increase":  {Error: "quota exceeded", Calls: 1},
		"Heartbeat": {Error: "bad \xff bytes", Calls: 1},
		"Update":    {Error: long, Calls: 1},
	}}, testLimits())
	ctx := t.Context()
	initDummy(t, h)
	_, err := h.Group().Increase(ctx, 1)
	require.EqualError(t, err, "quota exceeded")
	require.ErrorContains(t, h.Group().Heartbeat(ctx, "x"), "bad \uFFFD bytes")
	require.ErrorContains(t, h.Group().Update(ctx, func(string, provider.State) {}), "xxx [cut]")
	_, err = h.Group().Suspend(ctx, nil)
	require.ErrorIs(t, err, provider.ErrSuspendResumeNotSupported)
}

func TestErrorOfInitIsTheImplementations(t *testing.T) {
	h, _ := startDummy(t, &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Init": {Error: "no such cloud: \"north\""}}}, testLimits())
	_, err := h.Group().Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
	require.EqualError(t, err, "no such cloud: \"north\"")
}

func TestBadConfigurationIsAnErrorOfInit(t *testing.T) {
	h, err := Start(Config{Path: dummyBinary, PluginConfig: []byte(`{"MaxSize":"secret-word"}`), Logger: hclog.NewNullLogger(), Limits: testLimits()})
	require.NoError(t, err)
	t.Cleanup(h.Stop)
	_, err = h.Group().Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
	require.ErrorContains(t, err, "decode plugin configuration")
	require.ErrorContains(t, err, "MaxSize")
	require.NotContains(t, err.Error(), "secret-word")
}
