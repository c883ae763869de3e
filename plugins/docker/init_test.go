package docker

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestInitDescribesTheGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &InstanceGroup{Config: Config{Name: "crew", MaxSize: 4}, engine: newFakeEngine(), Version: "1.2.3", BuildInfo: "sha=x"}
		info, err := g.Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
		require.NoError(t, err)
		require.Equal(t, provider.ProviderInfo{
			ID: "docker/crew", MaxSize: 4, Version: "1.2.3", BuildInfo: "sha=x",
			Capabilities: []provider.Capability{provider.CapabilitySuspendResume},
		}, info)
		require.NoError(t, g.Shutdown(t.Context()))
		require.True(t, g.engine.(*fakeEngine).closed)
	})
}

func TestInitFailsWithOneClearError(t *testing.T) {
	tests := map[string]struct {
		config    Config
		connector provider.ConnectorConfig
		prepare   func(e *fakeEngine)
		want      string
	}{
		"bad configuration": {config: Config{MaxSize: -1}, want: "plugin_config max_size: -1 is negative"},
		"other protocol":    {connector: provider.ConnectorConfig{Protocol: provider.ProtocolWinRM}, want: `connector_config protocol: "winrm"`},
		"other system":      {connector: provider.ConnectorConfig{OS: "windows"}, want: `connector_config os: "windows"`},
		"unreadable key":    {connector: provider.ConnectorConfig{Key: []byte("secret")}, want: "connector_config key_path: reading the private ssh key"},
		"no image":          {config: Config{Image: "nowhere"}, want: `plugin_config image: "nowhere" is not on the docker engine`},
		"no image to start with": {
			config: Config{Images: []string{"busybox", "nowhere"}},
			want:   `plugin_config images: "nowhere" is not on the docker engine`,
		},
		"engine that runs nothing": {
			prepare: func(e *fakeEngine) {
				e.fail = func(operation, _ string) error {
					if operation == "start" {
						return errors.New("out of order")
					}
					return nil
				}
			},
			want: "the docker engine cannot run instances: privileged: out of order; with most capabilities: out of order",
		},
		"engine that does not answer": {
			prepare: func(e *fakeEngine) {
				e.fail = func(string, string) error { return errors.New("no such socket") }
			},
			want: `asking the docker engine for image "gitlab-runner-instance:local": no such socket`,
		},
		"store that cannot be filled": {
			config:  Config{Images: []string{"busybox"}},
			prepare: func(e *fakeEngine) { e.fillStatus = 1 },
			want:    `ended with status 1 on the command seed: no space left`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newFakeEngine()
				if tt.prepare != nil {
					tt.prepare(e)
				}
				g := &InstanceGroup{Config: tt.config, engine: e}
				_, err := g.Init(t.Context(), hclog.NewNullLogger(), provider.Settings{ConnectorConfig: tt.connector})
				require.ErrorContains(t, err, tt.want)
				require.NotContains(t, err.Error(), "secret")
				require.Empty(t, e.containers, "nothing is left behind")
				require.Empty(t, e.volumes, "nothing is left behind")
			})
		})
	}
}

func TestInstancesAreOnlyAsPrivilegedAsTheEngineAllows(t *testing.T) {
	yes, no := true, false
	tests := map[string]struct {
		unprivileged bool
		configured   *bool
		want         bool
	}{
		"able engine":             {want: true},
		"engine without all":      {unprivileged: true, want: false},
		"operator says yes":       {configured: &yes, want: true},
		"operator says no":        {configured: &no, want: false},
		"operator says no to all": {unprivileged: true, configured: &no, want: false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newFakeEngine()
				e.unprivileged = tt.unprivileged
				_, id := grown(t, e, Config{Privileged: tt.configured})
				require.Equal(t, tt.want, e.containers[id].spec.privileged)
				require.Len(t, e.containers, 1, "probes are removed")
			})
		})
	}
}

func TestAnInstanceGetsWhatTheConfigurationSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		_, id := grown(t, e, Config{
			Network: "lan", Memory: "1g", CPUs: 1.5, BootDelay: "1500ms", Images: []string{"busybox"},
			EngineConfig: json.RawMessage(`{"debug":true}`),
		})
		s := e.containers[id].spec
		require.Equal(t, "lan", s.network)
		require.Equal(t, int64(1<<30), s.memory)
		require.Equal(t, int64(1_500_000_000), s.nanoCPUs)
		require.Equal(t, []string{"INSTANCE_BOOT_DELAY=1.500"}, s.env)
		require.True(t, s.data)
		require.False(t, s.fillSeed)
		require.Equal(t, 1, e.full[s.seed])
		require.JSONEq(t, `{"debug":true}`, string(e.containers[id].files[engineConfigPath].content))
	})
}

func TestNoPrivateKeyIsInWhatTheEngineShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine()
		g, id := grown(t, e, Config{})
		s := e.containers[id].spec
		shown := strings.Join(append(append(s.env, s.command...), s.entrypoint...), " ")
		for _, label := range s.labels {
			shown += label
		}
		require.NotContains(t, shown, "PRIVATE KEY")
		require.NotContains(t, shown, string(g.key.Private))
		require.EqualValues(t, 0o600, e.containers[id].files[hostKeyPath].mode)
	})
}
