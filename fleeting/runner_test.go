package fleeting_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/integration"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func buildDummy(t *testing.T) string {
	t.Helper()
	return integration.BuildPluginBinary(t, "plugin/fleeting-plugin-dummy/cmd/fleeting-plugin-dummy", "fleeting-plugin-dummy")
}

func TestPluginThatWasNeverInitialisedCanBeKilled(t *testing.T) {
	runner, err := fleeting.RunPlugin(buildDummy(t), nil)
	require.NoError(t, err)
	require.NotNil(t, runner.InstanceGroup())
	runner.Kill()
	runner.Kill()
}

func TestRunPluginNamesWhatCannotBeRun(t *testing.T) {
	_, err := fleeting.RunPlugin("fleeting-plugin-that-does-not-exist", nil)
	require.ErrorContains(t, err, `run plugin "fleeting-plugin-that-does-not-exist"`)
}

// TestProvisionerOutlivesItsPlugin has a plugin crash in the middle of its work.
func TestProvisionerOutlivesItsPlugin(t *testing.T) {
	var log syncBuffer
	logger := hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Debug})
	runner, err := fleeting.RunPlugin(buildDummy(t), []byte(`{"Name":"crashing","Faults":{"Increase":{"Panic":"out of luck","Skip":1}}}`),
		fleeting.WithPluginLogger(logger.Named("fleeting-plugin")))
	require.NoError(t, err)
	t.Cleanup(runner.Kill)
	p, err := fleeting.Init(t.Context(), logger.Named("taskscaler"), runner.InstanceGroup(),
		fleeting.WithMaxSize(2), fleeting.WithUpdateInterval(20*time.Millisecond), fleeting.WithUpdateIntervalWhenExpecting(20*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(func() { p.Shutdown(context.Background()) })

	eventually := func(cond func() bool) {
		t.Helper()
		require.Eventually(t, cond, 20*time.Second, 10*time.Millisecond, "%+v\n%s", p.Capacity(), &log)
	}
	p.Request(1)
	eventually(func() bool { return p.Capacity().Running == 1 })
	first := p.Instances()[0]
	p.Request(1)
	eventually(func() bool { return strings.Contains(log.String(), "plugin exited unexpectedly") })
	require.Equal(t, provider.StateRunning, first.State(), "what ran goes on running")
	eventually(func() bool { return strings.Contains(log.String(), "plugin restarted") })
	require.Contains(t, log.String(), "panic: out of luck")
	require.Contains(t, log.String(), "updating instances failed")
	// The dummy's instances went with its process; the first increase of the new one works again.
	eventually(func() bool { return first.State() == provider.StateTimeout })
	eventually(func() bool { p.Request(1); return p.Capacity().Running == 1 })
}
