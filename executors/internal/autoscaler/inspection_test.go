package autoscaler_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/executors/internal/autoscaler"
)

func TestFleetsAreShownAndTheirInstancesDrained(t *testing.T) {
	f := newFleet(t, 2)
	require.Empty(t, f.provider.Fleets())
	runner := entry(1, 1, 2)
	slot := f.acquire(runner)
	executor := slot.NewExecutor(f.job(runner))
	machine, err := executor.Connect(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, machine.Instance)

	fleets := f.provider.Fleets()
	require.Len(t, fleets, 1)
	require.Equal(t, runner.ShortToken(), fleets[0].Runner)
	require.Equal(t, "r", fleets[0].RunnerName)
	require.False(t, fleets[0].Leaving)
	busy := 0
	for _, in := range fleets[0].Instances {
		busy += len(in.Tasks)
	}
	require.Equal(t, 1, busy)

	all := func(string, string) bool { return true }
	require.ErrorIs(t, f.provider.Drain("i-none", all), autoscaler.ErrUnknownInstance)
	require.ErrorIs(t, f.provider.Drain(machine.Instance, func(_, name string) bool { return name == "another" }), autoscaler.ErrUnknownInstance)
	require.NoError(t, f.provider.Drain(machine.Instance, all))
	require.NoError(t, executor.Cleanup(t.Context()))
	slot.Release()
	require.Eventually(t, func() bool {
		for _, in := range f.provider.Fleets()[0].Instances {
			if in.ID == machine.Instance {
				return false
			}
		}
		return true
	}, soon, 10*time.Millisecond, "it goes when it is empty")

	f.provider.Reload(nil)
	require.Eventually(t, func() bool { return len(f.provider.Fleets()) == 0 }, soon, 10*time.Millisecond)
}
