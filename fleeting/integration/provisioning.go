package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const (
	// maxInstances bounds the number of instances that are created.
	maxInstances = 3
	// patience is how long each phase may take, unless the connector's timeout is longer.
	patience = 10 * time.Minute
	// marker is what the command on the instance is to print.
	marker = "fleeting-integration-test"
)

// Config says what to test with.
type Config struct {
	// PluginConfig is the plugin's configuration; it is passed on as JSON.
	PluginConfig any
	// ConnectorConfig is how to connect to the instances.
	ConnectorConfig provider.ConnectorConfig
	// MaxInstances is the number of instances to create; 3 at the most.
	MaxInstances int
	// UseExternalAddr connects to the external addresses.
	UseExternalAddr bool
}

// TestProvisioning runs the plugin and has it create instances, runs a command on one of them, and has
// them deleted again. It deletes all instances of the group in the end, also if it fails.
func TestProvisioning(t *testing.T, pluginBinary string, config Config) {
	t.Helper()
	require.Positive(t, config.MaxInstances, "MaxInstances must be at least 1")
	size := min(config.MaxInstances, maxInstances)

	pluginConfig, err := json.Marshal(config.PluginConfig)
	require.NoError(t, err, "the plugin's configuration has no JSON form")
	runner, err := fleeting.RunPlugin(pluginBinary, pluginConfig)
	require.NoError(t, err)
	t.Cleanup(runner.Kill)

	watch := &watcher{t: t, changed: make(chan struct{}, 1), patience: max(patience, config.ConnectorConfig.Timeout)}
	watch.provisioner, err = fleeting.Init(t.Context(), hclog.Default(), runner.InstanceGroup(),
		fleeting.WithMaxSize(size),
		fleeting.WithInstanceGroupSettings(provider.Settings{ConnectorConfig: config.ConnectorConfig}),
		fleeting.WithSubscriber(func([]fleeting.Instance) { watch.notify() }),
		fleeting.WithDeleteInstancesOnShutdown())
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), watch.patience)
		defer cancel()
		watch.provisioner.Shutdown(ctx)
	})

	missing := size - len(watch.provisioner.Instances())
	t.Logf("scaling up to %d instances", size)
	watch.provisioner.Request(missing)
	running := watch.awaitRunning(size)

	t.Logf("scaling down to one instance")
	for _, instance := range running[1:] {
		instance.Delete()
	}
	last := watch.awaitRunning(1)[0]

	t.Logf("connecting to instance %q", last.ID())
	testConnection(t, last, config)

	t.Log("scaling down to none")
	last.Delete()
	watch.awaitRunning(0)
}

// testConnection runs a command on an instance.
func testConnection(t *testing.T, instance fleeting.Instance, config Config) {
	t.Helper()
	require.NoError(t, instance.Heartbeat(t.Context()))
	info, err := instance.ConnectInfo(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, info.Username, "the plugin gives no user name for the connection")

	var stdout, stderr bytes.Buffer
	err = connector.Run(t.Context(), info, connector.ConnectorOptions{
		DialOptions: connector.DialOptions{UseExternalAddr: config.UseExternalAddr},
		RunOptions:  connector.RunOptions{Command: "echo " + marker, Stdout: &stdout, Stderr: &stderr},
	})
	require.NoError(t, err, "running a command on the instance; its error output was: %s", &stderr)
	require.Contains(t, stdout.String(), marker)
}

// watcher waits for a provisioner's instances.
type watcher struct {
	t           *testing.T
	provisioner *fleeting.Provisioner
	changed     chan struct{}
	patience    time.Duration
}

// notify says that something has changed.
func (w *watcher) notify() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// awaitRunning waits until exactly n instances exist and all of them run, and returns them.
func (w *watcher) awaitRunning(n int) []fleeting.Instance {
	w.t.Helper()
	timeout := time.After(w.patience)
	for {
		instances := w.provisioner.Instances()
		running := 0
		for _, instance := range instances {
			if instance.State() == provider.StateRunning {
				running++
			}
		}
		if len(instances) == n && running == n {
			return instances
		}
		select {
		case <-w.changed:
		case <-timeout:
			w.t.Fatalf("after %s there are %d instances, of which %d run, instead of %d", w.patience, len(instances), running, n)
		}
	}
}
