package autoscaler_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
)

const soon = 10 * time.Second

func (f *fleet) plugins() (launched, killed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.launched, f.killed
}

func TestAnEntryThatComesBackWhileItDrainsKeepsItsFleet(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	slot := f.acquire(runner)
	f.provider.Reload(nil)
	f.provider.Reload([]*config.Runner{runner})
	slot.Release()
	f.acquire(runner).Release()
	launched, killed := f.plugins()
	require.Equal(t, 1, launched)
	require.Zero(t, killed)
}

func TestAnEntryWithoutAnIDKeepsItsFleetWhenItsTokenIsExchanged(t *testing.T) {
	f := newFleet(t, 1)
	former := entry(1, 1, 1)
	former.ID = 0
	slot := f.acquire(former)
	exchanged := *former
	exchanged.Token = "glrt-kjihgfedcba"
	exchanged.Continue(former)
	f.provider.Reload([]*config.Runner{&exchanged})
	slot.Release()
	f.acquire(&exchanged).Release()
	launched, killed := f.plugins()
	require.Equal(t, 1, launched)
	require.Zero(t, killed)
}

func TestARequestThatOutlivesItsEntryBringsNoFleetBack(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	f.acquire(runner).Release()
	f.provider.Reload(nil)
	require.Eventually(t, func() bool { _, killed := f.plugins(); return killed == 1 }, soon, time.Millisecond)
	_, err := f.provider.Acquire(t.Context(), runner)
	require.ErrorIs(t, err, common.ErrNoFreeExecutor)
	launched, _ := f.plugins()
	require.Equal(t, 1, launched)
}

func TestAnotherEntryWaitsForTheGroupOfOneThatDrains(t *testing.T) {
	f := newFleet(t, 2)
	runner := entry(1, 1, 2)
	slot := f.acquire(runner)
	other := entry(1, 1, 2)
	other.ID = 8
	f.provider.Reload([]*config.Runner{other})
	_, err := f.provider.Acquire(t.Context(), other)
	require.ErrorIs(t, err, common.ErrNoFreeExecutor)
	require.ErrorContains(t, err, "is draining")
	slot.Release()
	require.Eventually(t, func() bool { _, killed := f.plugins(); return killed == 1 }, soon, time.Millisecond)
}

func TestRequestsAndReloadsAtOnceStartNoMoreThanIsGivenUp(t *testing.T) {
	f := newFleet(t, 2)
	runner := entry(1, 2, 2)
	ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for ctx.Err() == nil {
				if slot, err := f.provider.Acquire(ctx, runner); err == nil {
					slot.Release()
				}
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			f.provider.Reload(nil)
			f.provider.Reload([]*config.Runner{runner})
		}
	})
	all.Wait()
	f.provider.Reload(nil)
	require.Eventually(t, func() bool { launched, killed := f.plugins(); return launched == killed }, soon, time.Millisecond)
}

func TestARequestFromBeforeAReloadDoesNotBringOldPoliciesBack(t *testing.T) {
	f := newFleet(t, 3)
	old, fresh := entry(1, 1, 3), entry(3, 1, 3)
	old.LoadedAt = fresh.LoadedAt.Add(-time.Second)
	f.acquire(old).Release()
	f.acquire(fresh).Release()
	f.acquire(old).Release()
	require.Eventually(t, func() bool { return len(f.group.List()) == 3 }, soon, time.Millisecond)
}

func TestChangesThatNeedARestartAreNamedAtAReload(t *testing.T) {
	f := newFleet(t, 2)
	f.acquire(entry(1, 1, 1)).Release()
	runner := entry(2, 1, 2)
	runner.Autoscaler.InstanceAcquireTimeout = time.Minute
	runner.Autoscaler.PluginConfig = map[string]any{"name": "another"}
	f.provider.Reload([]*config.Runner{runner})
	var keys []string
	for _, e := range f.log.AllEntries() {
		if e.Level == logrus.WarnLevel && strings.Contains(e.Message, "no effect before a restart") {
			keys = append(keys, fmt.Sprint(e.Data["key"]))
		}
	}
	require.Equal(t, []string{"runners.autoscaler.max_instances", "runners.autoscaler.plugin_config"}, keys)
}

func TestAPolicyIsAppliedOncePerLoad(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	f.acquire(runner).Release()
	// It would be refused if it was looked at.
	runner.Autoscaler.Policy[0].Periods = []string{"never"}
	f.acquire(runner).Release()
}

func TestAnInstanceWhoseEngineHasStoppedIsGivenUpAtTheSecondTry(t *testing.T) {
	f := newFleet(t, 3)
	runner := entry(2, 1, 3)
	slot := f.acquire(runner)
	defer slot.Release()
	var first string
	require.Eventually(t, func() bool { return f.count(logrus.InfoLevel, "instance is warm") == 2 }, soon, time.Millisecond)
	f.connect = func(ctx context.Context, env executors.Environment) error {
		if first == "" {
			first = env.ID()
		}
		if _, err := env.Connect(ctx); err != nil {
			return err
		}
		if env.ID() == first {
			return errEngineStopped
		}
		return nil
	}
	_, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.ErrorIs(t, err, errEngineStopped, "it may be about to start again")
	machine, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, first, machine.Hostname)
}

func TestAnEngineThatNeverWorkedIsTheSameOnOtherInstances(t *testing.T) {
	f := newFleet(t, 2)
	f.warm = errEngineStopped
	runner := entry(1, 1, 2)
	slot := f.acquire(runner)
	defer slot.Release()
	f.connect = func(context.Context, executors.Environment) error { return errEngineStopped }
	for range 3 {
		_, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
		require.ErrorIs(t, err, errEngineStopped)
	}
	require.False(t, f.logged("instance unexpectedly removed"))
}

func TestAnErrorThatIsNotTheInstancesKeepsTheInstance(t *testing.T) {
	f := newFleet(t, 2)
	runner := entry(1, 1, 2)
	slot := f.acquire(runner)
	defer slot.Release()
	refusal := common.Fail(common.RunnerConfigurationError, errors.New("missing docker configuration"))
	f.connect = func(context.Context, executors.Environment) error { return refusal }
	for range 3 {
		_, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
		require.ErrorIs(t, err, refusal)
	}
	require.False(t, f.logged("instance unexpectedly removed"))
}

func TestInstancesOfOthersAreNamedOnce(t *testing.T) {
	f := newFleet(t, 5)
	runner := entry(1, 1, 3)
	f.acquire(runner).Release()
	f.group.Add("foreign-1", provider.StateRunning)
	f.group.Add("foreign-2", provider.StateRunning)
	const text = "An instance appeared that this runner did not ask for"
	require.Eventually(t, func() bool { return f.count(logrus.WarnLevel, text) > 0 }, soon, time.Millisecond)
	f.provider.Shutdown(t.Context())
	require.Equal(t, 1, f.count(logrus.WarnLevel, text))
}

func TestInstancesRemovedAtTheStartAreExplained(t *testing.T) {
	f := newFleet(t, 2)
	f.group.Preexisting = 2
	f.acquire(entry(1, 1, 2)).Release()
	require.Equal(t, 1, f.count(logrus.WarnLevel, "[runners.autoscaler.state_storage]"))
}
