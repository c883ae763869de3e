package static

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// defaults are connector settings that make a host complete.
var defaults = provider.Settings{ConnectorConfig: provider.ConnectorConfig{Username: "ci", Password: "word"}}

func parse(t *testing.T, text string) Config {
	t.Helper()
	var g InstanceGroup
	require.NoError(t, json.Unmarshal([]byte(text), &g))
	return g.Config
}

func TestAHostTakesWhatItLeavesOpenFromTheConnector(t *testing.T) {
	key := writeKey(t, newKey(t))
	pem, err := os.ReadFile(key)
	require.NoError(t, err)
	settings := provider.Settings{ConnectorConfig: provider.ConnectorConfig{
		Username: "ci", Password: "word", Timeout: time.Minute, ProtocolPort: 2222, Arch: "amd64",
	}}
	f, err := parse(t, `{"state_file": "x", "reset_command": "reset-all", "instances": [
		{"name": "plain", "addr": "10.0.0.1"},
		{"id": "own", "internal_addr": "10.0.0.2", "external_addr": "198.51.100.2", "username": "me", "password": "mine",
		 "key_path": "`+key+`", "os": "darwin", "arch": "arm64", "port": 22, "timeout": "10s", "keepalive": "5s",
		 "reset_command": "reset-one"},
		{"external_addr": "win.example:5999", "os": "windows", "protocol": "winrm+https", "protocol_port": 1}
	]}`).fleet(settings)
	require.NoError(t, err)
	require.Len(t, f.hosts, 3)

	plain := f.hosts[0]
	require.Equal(t, provider.ConnectInfo{
		ID: "plain", InternalAddr: "10.0.0.1",
		ConnectorConfig: provider.ConnectorConfig{
			OS: "linux", Arch: "amd64", Protocol: provider.ProtocolSSH, ProtocolPort: 2222, Username: "ci", Password: "word", Timeout: time.Minute,
		},
	}, plain.info)
	require.Equal(t, "10.0.0.1:2222", plain.probe)
	require.Equal(t, "reset-all", plain.reset)

	own := f.hosts[1]
	require.Equal(t, provider.ConnectInfo{
		ID: "own", InternalAddr: "10.0.0.2", ExternalAddr: "198.51.100.2",
		ConnectorConfig: provider.ConnectorConfig{
			OS: "darwin", Arch: "arm64", Protocol: provider.ProtocolSSH, ProtocolPort: 22, Username: "me", Password: "mine", Key: pem,
			Timeout: 10 * time.Second, Keepalive: 5 * time.Second,
		},
	}, own.info)
	require.Equal(t, "10.0.0.2:22", own.probe)
	require.Equal(t, "reset-one", own.reset)

	windows := f.hosts[2]
	require.Equal(t, "win.example:5999", windows.info.ID, "a host without a name is called by its address")
	require.Equal(t, "win.example:5999", windows.probe)
	require.Equal(t, provider.ProtocolWinRMHttps, windows.info.Protocol)
}

func TestHostsMayBeATableByName(t *testing.T) {
	f, err := parse(t, `{"state_file": "x", "use_external_addr": true, "instances": {
		"b": {"external_addr": "2001:db8::1", "internal_addr": "10.0.0.2"}, "a": {"addr": "10.0.0.1"}
	}}`).fleet(defaults)
	require.NoError(t, err)
	require.Equal(t, "a", f.hosts[0].info.ID)
	require.Equal(t, "b", f.hosts[1].info.ID)
	require.Equal(t, "[2001:db8::1]:22", f.hosts[1].probe)
}

func TestBadConfigurationIsNamed(t *testing.T) {
	noKey := filepath.Join(t.TempDir(), "no.pem")
	require.NoError(t, os.WriteFile(noKey, []byte("nothing"), 0o600))
	tests := map[string]struct {
		config   string
		settings provider.Settings
		want     string
	}{
		"no host":       {config: `{}`, want: "plugin_config instances: must list at least one host"},
		"no address":    {config: `{"instances": [{"name": "a"}]}`, want: `host 1 ("a"): internal_addr: the host has no address`},
		"same name":     {config: `{"instances": [{"name": "a", "addr": "h"}, {"name": "a", "addr": "i"}]}`, want: `two hosts have the name "a"`},
		"same host":     {config: `{"instances": [{"name": "a", "addr": "h"}, {"name": "b", "addr": "h:22"}]}`, want: `"a" and "b" are one host, h:22`},
		"name and id":   {config: `{"instances": [{"name": "a", "id": "b", "addr": "h"}]}`, want: `id: "b" is not name, "a"`},
		"two addresses": {config: `{"instances": [{"name": "a", "addr": "h", "internal_addr": "i"}]}`, want: `addr: "h" is not internal_addr, "i"`},
		"two ports":     {config: `{"instances": [{"name": "a", "addr": "h", "port": 1, "protocol_port": 2}]}`, want: "port: 1 is not protocol_port, 2"},
		"odd name":      {config: `{"instances": [{"name": "a b", "addr": "h"}]}`, want: "name: must start with a letter"},
		"odd group":     {config: `{"name": "../x", "instances": [{"addr": "h"}]}`, want: "plugin_config name:"},
		"protocol":      {config: `{"instances": [{"name": "a", "addr": "h", "protocol": "telnet"}]}`, want: `protocol: "telnet" is not one of`},
		"port":          {config: `{"instances": [{"name": "a", "addr": "h", "port": 99999}]}`, want: "protocol_port: 99999 is no port"},
		"timeout":       {config: `{"instances": [{"name": "a", "addr": "h", "timeout": "1"}]}`, want: `timeout: "1" is not a duration`},
		"reset timeout": {config: `{"reset_timeout": "-1s", "instances": [{"addr": "h"}]}`, want: `reset_timeout: "-1s" is not a duration`},
		"host key":      {config: `{"instances": [{"name": "a", "addr": "h", "host_keys": ["x"]}]}`, want: `host_keys: "x" is not a line`},
		"key not there": {config: `{"instances": [{"name": "a", "addr": "h", "key_path": "/nowhere"}]}`, want: "key_path: open /nowhere"},
		"key is no key": {config: `{"instances": [{"name": "a", "addr": "h", "key_path": "` + noKey + `"}]}`, want: "key_path: " + noKey + ": ssh: no key found"},
		"no user":       {config: `{"instances": [{"name": "a", "addr": "h"}]}`, settings: provider.Settings{ConnectorConfig: provider.ConnectorConfig{Password: "x"}}, want: "username: must be set"},
		"no credential": {config: `{"instances": [{"name": "a", "addr": "h"}]}`, settings: provider.Settings{ConnectorConfig: provider.ConnectorConfig{Username: "x"}}, want: "a key or a password must be set"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := parse(t, tt.config)
			c.StateFile = "x"
			if tt.settings.Username == "" && tt.settings.Password == "" {
				tt.settings = defaults
			}
			_, err := c.fleet(tt.settings)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestKeysThatNoHostHasAreRefused(t *testing.T) {
	for _, text := range []string{`{"instances": [{"adress": "h"}]}`, `{"instances": {"a": {"adress": "h"}}}`} {
		var g InstanceGroup
		require.ErrorContains(t, json.Unmarshal([]byte(text), &g), `plugin_config instances: json: unknown field "adress"`)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add(`{"instances": [{"name": "a", "addr": "h:1"}]}`)
	f.Add(`{"instances": {"a": {"external_addr": "::1"}}, "reset_timeout": "1s"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var c Config
		if json.Unmarshal([]byte(text), &c) != nil {
			return
		}
		// A fuzzer is not to open files.
		for i := range c.Instances {
			c.Instances[i].KeyPath = ""
		}
		c.StateFile = "x"
		checked, err := c.fleet(defaults)
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, h := range checked.hosts {
			if h.info.ID == "" || names[h.info.ID] || h.probe == "" {
				t.Fatalf("host %+v of %q", h, text)
			}
			names[h.info.ID] = true
		}
	})
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"hosts": {"a": "claimed", "b": "resetting"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		claims, err := parseClaims(data)
		if err != nil {
			return
		}
		path := filepath.Join(t.TempDir(), "state.json")
		if err := saveClaims(path, claims); err != nil {
			t.Fatal(err)
		}
		again, err := loadClaims(path)
		if err != nil {
			t.Fatal(err)
		}
		require.Equal(t, claims, again)
	})
}
