package autoscaler_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
	"gitlab.com/gitlab-org/gitlab-runner/executors/internal/autoscaler"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/diagnosis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fleet is everything around a provider: plugins, connections and the wrapped executor are fakes, the
// taskscaler is real.
type fleet struct {
	t        *testing.T
	provider *autoscaler.Provider
	group    *dummy.InstanceGroup
	log      *logtest.Hook

	mu       sync.Mutex
	launched int
	killed   int
	launch   error
	// dead are instances that cannot be reached, dials counts attempts at each.
	dead map[string]bool
	// silent instances leave attempts unanswered.
	silent  bool
	dials   map[string]int
	clients map[string]*client
	warmed  []string
	warm    error
	// watch is what an instance is found to be like; nil finds nothing until it is gone.
	watch func(ctx context.Context, env executors.Environment) error
	// run is what becomes of a stage; nil is its success.
	run func() error
	// connect is what the wrapped executor does; nil connects to its environment.
	connect func(ctx context.Context, env executors.Environment) error
}

var errEngineStopped = errors.New("the engine has stopped")

func newFleet(t *testing.T, max int) *fleet {
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.TraceLevel)
	f := &fleet{
		t: t, group: &dummy.InstanceGroup{MaxSize: max}, log: hook,
		dead: map[string]bool{}, dials: map[string]int{}, clients: map[string]*client{},
	}
	f.provider = autoscaler.NewProvider(autoscaler.Options{
		Name: "fake-autoscaler", Inner: f, Plugins: f, Connect: f.dial, Log: log,
		Metrics: prometheus.NewRegistry(), StateDir: t.TempDir(),
	})
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
		defer stop()
		f.provider.Shutdown(ctx)
		f.mu.Lock()
		defer f.mu.Unlock()
		require.Equal(t, f.launched, f.killed, "every plugin is killed in the end")
	})
	return f
}

func (f *fleet) Launch(string, []byte, hclog.Logger) (autoscaler.Plugin, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.launch != nil {
		return nil, f.launch
	}
	f.launched++
	return plugin{f}, nil
}

type plugin struct{ fleet *fleet }

func (p plugin) InstanceGroup() provider.InstanceGroup { return p.fleet.group }
func (p plugin) Kill() {
	p.fleet.mu.Lock()
	defer p.fleet.mu.Unlock()
	p.fleet.killed++
	require.Equal(p.fleet.t, p.fleet.killed, p.fleet.group.CallCount("Shutdown"), "the group is shut down before its plugin is killed")
}

func (f *fleet) dial(ctx context.Context, info provider.ConnectInfo, _ connector.DialOptions) (connector.Client, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials[info.ID]++
	if f.silent {
		f.mu.Unlock()
		<-ctx.Done()
		f.mu.Lock()
		return nil, context.Cause(ctx)
	}
	if f.dead[info.ID] {
		return nil, errors.New("dial ssh: connection refused")
	}
	c := &client{done: make(chan struct{})}
	f.clients[info.ID] = c
	return c, nil
}

// lose makes an instance one that cannot be reached, in silence.
func (f *fleet) lose(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead[id] = true
	if c := f.clients[id]; c != nil {
		c.end(connector.ErrConnectionLost)
	}
}

// client is a connection that a test can break.
type client struct {
	once sync.Once
	done chan struct{}
	err  error
}

func (c *client) end(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.done)
	})
}
func (c *client) Dial(string, string) (net.Conn, error) { return nil, errors.New("not used") }
func (c *client) DialRun(context.Context, string) (net.Conn, error) {
	return nil, errors.New("not used")
}
func (c *client) Run(context.Context, connector.RunOptions) error { return nil }
func (c *client) Close() error                                    { c.end(net.ErrClosed); return nil }
func (c *client) Done() <-chan struct{}                           { return c.done }
func (c *client) Err() error                                      { return c.err }

func (f *fleet) Features() spec.Features { return spec.Features{Image: true} }
func (f *fleet) DefaultShell() string    { return "bash" }
func (f *fleet) Unusable(err error) bool { return errors.Is(err, errEngineStopped) }
func (f *fleet) Stopped(err error) bool  { return errors.Is(err, errEngineStopped) }
func (f *fleet) Examine(ctx context.Context, _ *config.Runner, env executors.Environment, report diagnosis.Report) {
	client, err := env.Connect(ctx)
	if err != nil {
		report.Fail("fake", err.Error(), "none")
		return
	}
	report.OK("fake", "examined on "+env.ID())
	_ = client.Close()
}
func (f *fleet) Warm(ctx context.Context, _ *config.Runner, env executors.Environment) error {
	f.mu.Lock()
	f.warmed = append(f.warmed, env.ID())
	warm := f.warm
	f.mu.Unlock()
	if warm != nil {
		return warm
	}
	_, err := env.Connect(ctx)
	return err
}
func (f *fleet) Watch(ctx context.Context, _ *config.Runner, env executors.Environment) error {
	if f.watch != nil {
		return f.watch(ctx, env)
	}
	<-ctx.Done()
	return nil
}
func (f *fleet) NewExecutor(_ *common.Job, env executors.Environment) common.Executor {
	return &inner{f, env}
}

type inner struct {
	fleet *fleet
	env   executors.Environment
}

func (i *inner) Connect(ctx context.Context) (common.Machine, error) {
	if i.fleet.connect != nil {
		return common.Machine{Hostname: i.env.ID()}, i.fleet.connect(ctx, i.env)
	}
	_, err := i.env.Connect(ctx)
	return common.Machine{Hostname: i.env.ID()}, err
}
func (i *inner) Prepare(context.Context) error { return nil }
func (i *inner) HelperReady() <-chan struct{}  { return nil }
func (i *inner) OpenTerminal(context.Context) (io.ReadWriteCloser, error) {
	return nil, errors.New("there is no terminal here")
}

func (i *inner) Run(context.Context, common.Stage) error {
	if i.fleet.run != nil {
		return i.fleet.run()
	}
	return nil
}
func (i *inner) Cleanup(context.Context) error { return nil }

func entry(idle, capacity, max int) *config.Runner {
	return &config.Runner{
		Name: "r", URL: "https://gitlab.example.com", ID: 7, Token: "glrt-abcdefghijk", SystemID: "s_0123456789ab",
		Executor: "fake-autoscaler", LoadedAt: time.Now(),
		Autoscaler: &config.Autoscaler{
			Plugin: "p", CapacityPerInstance: capacity, MaxInstances: max, InstanceAcquireTimeout: 10 * time.Second,
			UpdateInterval: 20 * time.Millisecond, UpdateIntervalWhenExpecting: 10 * time.Millisecond,
			ShutdownDeletionInterval: 10 * time.Millisecond,
			Policy:                   []config.Policy{{IdleCount: idle, IdleTime: time.Minute}},
		},
	}
}

func (f *fleet) job(runner *config.Runner) *common.Job {
	return &common.Job{Spec: &spec.Job{ID: 1}, Runner: runner, Log: joblog.Discard(logrus.New().WithField("test", true))}
}

// acquire reserves a slot, as often as it takes until there is one.
func (f *fleet) acquire(runner *config.Runner) common.Slot {
	f.t.Helper()
	var slot common.Slot
	require.Eventually(f.t, func() bool {
		var err error
		slot, err = f.provider.Acquire(f.t.Context(), runner)
		require.True(f.t, err == nil || errors.Is(err, common.ErrNoFreeExecutor), err)
		return err == nil
	}, 20*time.Second, 5*time.Millisecond)
	return slot
}

func (f *fleet) logged(message string) bool {
	return slices.ContainsFunc(f.log.AllEntries(), func(e *logrus.Entry) bool { return e.Message == message })
}

// count is how many entries of a level contain a text.
func (f *fleet) count(level logrus.Level, text string) int {
	n := 0
	for _, e := range f.log.AllEntries() {
		if e.Level == level && strings.Contains(e.Message, text) {
			n++
		}
	}
	return n
}

func TestAnEntryWithoutAutoscalerIsRefused(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	runner.Autoscaler = nil
	_, err := f.provider.Acquire(t.Context(), runner)
	require.ErrorContains(t, err, "initializing taskscaler: executor requires autoscaler config")
}

func TestJobsThatAreToBeIsolatedAreNotRunWithoutThat(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	runner.Autoscaler.VMIsolation = &config.VMIsolation{Enabled: true}
	_, err := f.provider.Acquire(t.Context(), runner)
	require.ErrorContains(t, err, "vm_isolation is not supported")
	require.Zero(t, f.launched)
}

func TestIsolationThatIsAskedForByAReloadIsNotIgnored(t *testing.T) {
	f := newFleet(t, 1)
	f.acquire(entry(1, 1, 1)).Release()
	runner := entry(1, 1, 1)
	runner.Autoscaler.VMIsolation = &config.VMIsolation{Enabled: true}
	f.provider.Reload([]*config.Runner{runner})
	_, err := f.provider.Acquire(t.Context(), runner)
	require.ErrorContains(t, err, "vm_isolation is not supported")
}

func TestAPluginThatDoesNotStartIsTriedAgainWithTheNextRequest(t *testing.T) {
	f := newFleet(t, 2)
	f.launch = errors.New("loading fleeting plugin: plugin not found: x")
	runner := entry(1, 1, 2)
	_, err := f.provider.Acquire(t.Context(), runner)
	require.ErrorContains(t, err, "initializing taskscaler: running autoscaler plugin: loading fleeting plugin: plugin not found: x")
	require.NotErrorIs(t, err, common.ErrNoFreeExecutor)
	f.mu.Lock()
	f.launch = nil
	f.mu.Unlock()
	f.acquire(runner).Release()
	require.Equal(t, 1, f.launched)
}

func TestAKeyThatCannotBeReadIsNamed(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	runner.Autoscaler.ConnectorConfig.KeyPath = filepath.Join(t.TempDir(), "absent")
	_, err := f.provider.Acquire(t.Context(), runner)
	require.ErrorContains(t, err, "reading instance group connector key")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestABadPolicyIsAnErrorAndTheOldOneStays(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	f.acquire(runner).Release()
	bad := entry(1, 1, 1)
	bad.Autoscaler.Policy[0].Periods = []string{"at noon"}
	_, err := f.provider.Acquire(t.Context(), bad)
	require.ErrorContains(t, err, "configuring taskscaler schedules")
	require.ErrorContains(t, err, "at noon")
	f.acquire(runner).Release()
}

func TestPollsWithoutAJobLeaveNoReservationBehind(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	for range 5 {
		f.acquire(runner).Release()
	}
	require.Zero(t, f.group.CallCount("Decrease"))
}

func TestWithoutRoomTheRefusalIsNoFault(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	slot := f.acquire(runner)
	_, err := f.provider.Acquire(t.Context(), runner)
	require.ErrorIs(t, err, common.ErrNoFreeExecutor)
	require.ErrorContains(t, err, "reserving taskscaler capacity: no capacity")
	slot.Release()
}

func TestEveryTryAtAJobUsesOneAcquisition(t *testing.T) {
	f := newFleet(t, 2)
	runner := entry(2, 1, 2)
	slot := f.acquire(runner)
	var ids []string
	f.connect = func(ctx context.Context, env executors.Environment) error {
		ids = append(ids, env.ID())
		if _, err := env.Connect(ctx); err != nil {
			return err
		}
		return errors.New("the engine does not answer")
	}
	for range 3 {
		_, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
		require.ErrorContains(t, err, "the engine does not answer")
	}
	require.Len(t, slices.Compact(ids), 1)
	slot.Release()
}

func TestAnInstanceThatCannotBeReachedIsGivenUpForAnotherOne(t *testing.T) {
	f := newFleet(t, 3)
	runner := entry(2, 1, 3)
	slot := f.acquire(runner)
	var first string
	f.connect = func(ctx context.Context, env executors.Environment) error {
		if first == "" {
			first = env.ID()
			f.lose(first)
			require.Eventually(t, func() bool { _, err := env.Connect(ctx); return err != nil }, soon, time.Millisecond)
		}
		_, err := env.Connect(ctx)
		return err
	}
	machine, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, first, machine.Hostname)
	slot.Release()
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(f.group.List(), func(i dummy.Instance) bool { return i.ID == first && i.State == provider.StateRunning })
	}, 10*time.Second, 5*time.Millisecond, "the dead instance is removed")
}

func TestJobsOnOneInstanceShareItsConnection(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(4, 4, 1)
	var slots []common.Slot
	for range 4 {
		slot := f.acquire(runner)
		_, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
		require.NoError(t, err)
		slots = append(slots, slot)
	}
	f.mu.Lock()
	require.Len(t, f.dials, 1)
	for _, count := range f.dials {
		require.Equal(t, 1, count)
	}
	f.mu.Unlock()
	for _, slot := range slots {
		slot.Release()
	}
}

func TestAConnectedInstanceRunsJobsWhileItsGroupDoesNotAnswer(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	slot := f.acquire(runner)
	f.group.SetFault("ConnectInfo", dummy.Fault{Error: "the interface of the cloud is down"})
	_, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	slot.Release()
}

func TestTheLossOfTheConnectionEndsTheJobWithItsReason(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	slot := f.acquire(runner)
	machine, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	watched, stop := slot.Watch(t.Context())
	defer stop()
	f.mu.Lock()
	f.clients[machine.Hostname].end(connector.ErrConnectionLost)
	f.mu.Unlock()
	select {
	case <-watched.Done():
	case <-time.After(10 * time.Second):
		require.Fail(t, "the job's context did not end")
	}
	require.ErrorContains(t, context.Cause(watched), "instance "+machine.Hostname+" was lost during the job")
	require.ErrorContains(t, context.Cause(watched), "instance unexpectedly removed")
	slot.Release()
}

func TestAnInstanceWhoseEngineHasStoppedIsLostToAllJobsOnIt(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(2, 2, 1)
	var slots []common.Slot
	var executors []common.Executor
	var watched []context.Context
	for range 2 {
		slot := f.acquire(runner)
		executor := slot.NewExecutor(f.job(runner))
		_, err := executor.Connect(t.Context())
		require.NoError(t, err)
		ctx, stop := slot.Watch(t.Context())
		defer stop()
		slots, executors, watched = append(slots, slot), append(executors, executor), append(watched, ctx)
	}
	f.run = func() error { return common.ExitError(1) }
	require.EqualError(t, executors[0].Run(watched[0], common.Stage{}), common.ExitError(1).Error(), "a script that fails is no loss")
	f.run = func() error { return fmt.Errorf("asking for the exit code: %w", errEngineStopped) }
	err := executors[0].Run(watched[0], common.Stage{})
	require.Regexp(t, "^instance .* was lost during the job: instance unexpectedly removed: .*the engine has stopped; it may have run out of memory", err.Error())
	<-watched[1].Done()
	require.EqualError(t, context.Cause(watched[1]), err.Error())
	for _, slot := range slots {
		slot.Release()
	}
}

func TestAnInstanceThatIsFoundUselessIsLostToItsJobAndReplaced(t *testing.T) {
	f := newFleet(t, 1)
	useless := make(chan struct{})
	first := ""
	ended := make(chan struct{}, 3)
	f.watch = func(ctx context.Context, env executors.Environment) error {
		if first == "" {
			first = env.ID()
			<-useless
			return errEngineStopped
		}
		<-ctx.Done()
		ended <- struct{}{}
		return nil
	}
	runner := entry(1, 1, 1)
	slot := f.acquire(runner)
	machine, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	watched, stop := slot.Watch(t.Context())
	defer stop()
	close(useless)
	<-watched.Done()
	require.ErrorContains(t, context.Cause(watched), "instance "+machine.Hostname+" was lost during the job")
	require.ErrorIs(t, context.Cause(watched), errEngineStopped)
	slot.Release()

	slot = f.acquire(runner)
	next, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, machine.Hostname, next.Hostname)
	f.lose(next.Hostname)
	<-ended // nobody looks after an instance without its connection
	slot.Release()
}

func TestALostInstanceIsReplacedForTheNextTryAndItsSlotGivenBackOnce(t *testing.T) {
	f := newFleet(t, 2)
	runner := entry(2, 1, 2)
	slot := f.acquire(runner)
	require.False(t, slot.Renew(errEngineStopped), "there is no instance yet that could be lost")
	machine, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	watched, stop := slot.Watch(t.Context())
	f.lose(machine.Hostname)
	<-watched.Done()
	stop()
	require.True(t, slot.Renew(context.Cause(watched)))
	next, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	require.NotEqual(t, machine.Hostname, next.Hostname)
	slot.Release()

	// As many slots as before can be had again.
	var slots []common.Slot
	for range 2 {
		slot := f.acquire(runner)
		_, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
		require.NoError(t, err)
		slots = append(slots, slot)
	}
	for _, slot := range slots {
		slot.Release()
	}
}

func TestTheEndOfAJobIsNotTheLossOfItsInstance(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	slot := f.acquire(runner)
	_, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	watched, stop := slot.Watch(t.Context())
	stop()
	require.ErrorIs(t, context.Cause(watched), context.Canceled)
	slot.Release()
}

func TestTheWaitForAnInstanceHasItsLimitAndSaysWhatItWaitedFor(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(0, 1, 1)
	runner.Autoscaler.InstanceAcquireTimeout = 300 * time.Millisecond
	off := false
	runner.Autoscaler.Policy[0].PreemptiveMode = &off
	runner.Autoscaler.InstanceReadyCommand = ""
	for _, id := range []string{"dummy-1", "dummy-2", "dummy-3"} {
		f.dead[id] = true
	}
	f.connect = func(context.Context, executors.Environment) error { return nil }
	f.group.SetFault("Increase", dummy.Fault{Calls: 1000, Error: "no stock"})
	slot := f.acquire(runner)
	_, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "unable to acquire instance within the configured timeout of 300ms: context deadline exceeded")
	slot.Release()
}

func TestAnInstanceThatVanishesWhileItBootsIsNotConnectedToAnyMore(t *testing.T) {
	f := newFleet(t, 1)
	f.silent = true
	_, err := f.provider.Acquire(t.Context(), entry(1, 1, 1))
	require.ErrorIs(t, err, common.ErrNoFreeExecutor)
	require.Eventually(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.dials["dummy-1"] == 1
	}, soon, time.Millisecond)
	f.group.Remove("dummy-1")
	require.Eventually(t, func() bool { return f.logged("ready up preparation failed") }, soon, time.Millisecond)
}

func TestAnInstanceIsWarmedBeforeItsFirstJob(t *testing.T) {
	f := newFleet(t, 1)
	f.acquire(entry(1, 1, 1)).Release()
	require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.warmed) == 1 }, 10*time.Second, time.Millisecond)
}

func TestInstancesFoundAtTheStartAreRemovedUnlessTheirStateIsKnown(t *testing.T) {
	f := newFleet(t, 2)
	f.group.Preexisting = 1
	runner := entry(1, 1, 2)
	f.acquire(runner).Release()
	require.Eventually(t, func() bool { return f.group.CallCount("Decrease") > 0 }, 10*time.Second, 5*time.Millisecond)
	require.True(t, f.logged("ready up preparation failed"))
}

func TestAnEntryThatIsGoneDrainsAndShutsItsFleetDown(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	slot := f.acquire(runner)
	f.provider.Reload(nil)
	f.mu.Lock()
	require.Zero(t, f.killed, "a slot is still in use")
	f.mu.Unlock()
	slot.Release()
	require.Eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.killed == 1 }, 10*time.Second, time.Millisecond)
}

func TestSlotsNameTheirCgroup(t *testing.T) {
	f := newFleet(t, 1)
	runner := entry(1, 1, 1)
	runner.UseSlotCgroups = true
	slot := f.acquire(runner)
	machine, err := slot.NewExecutor(f.job(runner)).Connect(t.Context())
	require.NoError(t, err)
	require.Equal(t, "GITLAB_RUNNER_SLOT_CGROUP", machine.ExtraVariables[0].Key)
	require.Equal(t, "gitlab-runner/slot-0", machine.ExtraVariables[0].Value)
	slot.Release()
}
