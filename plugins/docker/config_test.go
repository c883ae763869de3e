package docker

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnEmptyConfigurationHasDefaults(t *testing.T) {
	s, err := Config{}.shape()
	require.NoError(t, err)
	require.Equal(t, shape{name: "gitlab-runner", image: "gitlab-runner-instance:local", maxSize: 10}, s)
}

func TestAConfigurationIsRead(t *testing.T) {
	var g InstanceGroup
	require.NoError(t, json.Unmarshal([]byte(`{
		"name": "crew", "image": "machine:1", "max_size": 3, "network": "lan", "memory": "2g", "cpus": 0.5,
		"privileged": false, "images": ["b", "a", "b"], "engine_config": {"debug": true}, "boot_delay": "5s"
	}`), &g))
	s, err := g.Config.shape()
	require.NoError(t, err)
	no := false
	require.Equal(t, shape{
		name: "crew", image: "machine:1", maxSize: 3, network: "lan", memory: 2 << 30, nanoCPUs: 500_000_000,
		privileged: &no, images: []string{"a", "b"}, engineConfig: []byte(`{"debug": true}`), bootDelay: 5 * time.Second,
	}, s)
}

func TestABadConfigurationIsRefusedByKey(t *testing.T) {
	tests := map[string]struct {
		config Config
		want   string
	}{
		"name with a slash":     {Config{Name: "a/b"}, "plugin_config name:"},
		"long name":             {Config{Name: "a123456789012345678901234567890123456789012345"}, "plugin_config name:"},
		"negative size":         {Config{MaxSize: -3}, "plugin_config max_size: -3 is negative"},
		"memory without sense":  {Config{Memory: "much"}, `plugin_config memory: "much" is not a size`},
		"little memory":         {Config{Memory: "1m"}, "plugin_config memory:"},
		"negative memory":       {Config{Memory: "-1g"}, "plugin_config memory:"},
		"negative processors":   {Config{CPUs: -1}, "plugin_config cpus:"},
		"hardly any processor":  {Config{CPUs: 1e-9}, "plugin_config cpus:"},
		"too many processors":   {Config{CPUs: 1e300}, "plugin_config cpus:"},
		"empty image":           {Config{Images: []string{""}}, "plugin_config images:"},
		"delay without unit":    {Config{BootDelay: "5"}, `plugin_config boot_delay: "5" is not a duration`},
		"negative delay":        {Config{BootDelay: "-5s"}, "plugin_config boot_delay:"},
		"endless delay":         {Config{BootDelay: "24h"}, "plugin_config boot_delay:"},
		"engine config of text": {Config{EngineConfig: json.RawMessage(`"x"`)}, "plugin_config engine_config: not a JSON object"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := tt.config.shape()
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestAllBadKeysAreNamedAtOnce(t *testing.T) {
	_, err := Config{MaxSize: -1, Memory: "x", CPUs: -1}.shape()
	for _, key := range []string{"max_size", "memory", "cpus"} {
		require.ErrorContains(t, err, "plugin_config "+key)
	}
}
