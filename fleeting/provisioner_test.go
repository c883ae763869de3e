package fleeting_test

import (
	"bytes"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// events records what a subscriber is told.
type events struct {
	mu   sync.Mutex
	seen []string
	by   map[string]fleeting.Instance
}

func (e *events) subscriber(instances []fleeting.Instance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = map[string]fleeting.Instance{}
	}
	for _, i := range instances {
		e.seen = append(e.seen, i.ID()+" "+string(i.State()))
		e.by[i.ID()] = i
	}
}

// take returns the events since the last call.
func (e *events) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := e.seen
	e.seen = nil
	return seen
}

// start runs a provisioner in a bubble of fake time.
func start(t *testing.T, group provider.InstanceGroup, opts ...fleeting.Option) *fleeting.Provisioner {
	t.Helper()
	p, err := fleeting.Init(t.Context(), nil, group, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { p.Shutdown(context.Background()) })
	return p
}

func inBubble(t *testing.T, name string, fn func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, fn) })
}

func TestInstancesAreRequestedUsedAndDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group, told := &dummy.InstanceGroup{}, &events{}
		p := start(t, group, fleeting.WithMaxSize(3), fleeting.WithSubscriber(told.subscriber),
			fleeting.WithInstanceGroupSettings(provider.Settings{ConnectorConfig: provider.ConnectorConfig{Username: "u"}}))
		require.Equal(t, fleeting.Capacity{Max: 3}, p.Capacity())
		require.Equal(t, "u", group.Settings().Username)

		p.Request(2)
		counted := p.Capacity()
		require.Equal(t, 2, counted.Requested+counted.Pending, "counted at once, wherever the loop is")
		requestedAt := time.Now()
		synctest.Wait()
		require.Equal(t, fleeting.Capacity{Max: 3, Pending: 2}, p.Capacity(), "asked for at once")
		require.Empty(t, p.Instances())

		time.Sleep(fleeting.DefaultUpdateIntervalWhenExpecting)
		synctest.Wait()
		require.Equal(t, fleeting.Capacity{Max: 3, Running: 2}, p.Capacity())
		require.Equal(t, []string{"dummy-1 running", "dummy-2 running"}, told.take())
		instances := p.Instances()
		require.Len(t, instances, 2)
		one := instances[0]
		require.Equal(t, "dummy-1", one.ID())
		require.Equal(t, fleeting.CauseRequested, one.Cause())
		require.Equal(t, requestedAt, one.RequestedAt())
		require.Equal(t, requestedAt.Add(2*time.Second), one.ProvisionedAt())
		require.Equal(t, one.ProvisionedAt(), one.UpdatedAt())
		require.True(t, one.DeletedAt().IsZero())
		require.Same(t, told.by["dummy-1"], one)
		require.True(t, one.ReadyWait(t.Context()))
		require.NoError(t, one.Heartbeat(t.Context()))
		info, err := one.ConnectInfo(t.Context())
		require.NoError(t, err)
		require.Equal(t, "u", info.Username)

		one.Delete()
		deletedAt := time.Now()
		require.False(t, one.ReadyWait(t.Context()), "it is doomed")
		one.Delete()
		synctest.Wait()
		require.Equal(t, provider.StateDeleting, one.State())
		require.Equal(t, 1, p.Capacity().Deleting)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, provider.StateDeleted, one.State())
		require.Equal(t, deletedAt, one.DeletedAt())
		require.Equal(t, []string{"dummy-1 deleting", "dummy-1 deleted"}, told.take())
		require.Equal(t, []fleeting.Instance{instances[1]}, p.Instances())
		one.Delete()
		time.Sleep(time.Hour)
		require.Equal(t, 1, group.CallCount("Decrease"))
		require.ErrorContains(t, one.Heartbeat(t.Context()), `heartbeat of instance "dummy-1"`)
		_, err = one.ConnectInfo(t.Context())
		require.ErrorContains(t, err, "no such instance")
	})
}

func TestInitTakesStock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &events{}
		p := start(t, &dummy.InstanceGroup{Name: "n", MaxSize: 5, Preexisting: 2, Capabilities: []provider.Capability{"x"}},
			fleeting.WithMaxSize(8), fleeting.WithSubscriber(told.subscriber), fleeting.WithSubscriber(told.subscriber))
		require.Equal(t, fleeting.Capacity{Max: 5, Running: 2}, p.Capacity(), "the group's maximum is the smaller one")
		for _, i := range p.Instances() {
			require.Equal(t, fleeting.CausePreexisted, i.Cause())
		}
		require.Equal(t, "dummy/n", p.Info().ID)
		require.True(t, p.HasCapability("x"))
		require.False(t, p.HasCapability(provider.CapabilitySuspendResume))
		synctest.Wait()
		require.Len(t, told.take(), 4, "each subscriber is told")
	})
}

func TestInitFailsWithTheGroup(t *testing.T) {
	group := &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Init": {Error: "no credentials"}}}
	_, err := fleeting.Init(t.Context(), hclog.NewNullLogger(), group)
	require.EqualError(t, err, "initialise instance group: no credentials")
}

func TestAGroupThatIsTooSmallIsNamedWithTheRemedy(t *testing.T) {
	for name, c := range map[string]struct {
		group, wanted int
		warns         bool
	}{
		"smaller":             {5, 8, true},
		"as large":            {8, 8, false},
		"larger":              {9, 8, false},
		"of any size":         {0, 8, false},
		"asked for its limit": {5, 0, false},
	} {
		inBubble(t, name, func(t *testing.T) {
			var log bytes.Buffer
			logger := hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn})
			p, err := fleeting.Init(t.Context(), logger, &dummy.InstanceGroup{Name: "n", MaxSize: c.group}, fleeting.WithMaxSize(c.wanted))
			require.NoError(t, err)
			p.Shutdown(context.Background())
			if c.warns {
				require.Contains(t, log.String(), "raise the group's maximum size or lower max_instances: group=dummy/n group_max_size=5 max_instances=8")
			} else {
				require.Empty(t, log.String())
			}
		})
	}
}

func TestInitDoesNotFailWithTheFirstUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := &dummy.InstanceGroup{Preexisting: 1, Faults: map[string]dummy.Fault{"Update": {Error: "not now", Calls: 1}}}
		p := start(t, group)
		require.Empty(t, p.Instances())
		time.Sleep(3 * time.Second)
		require.Len(t, p.Instances(), 1)
		require.Equal(t, fleeting.CausePreexisted, p.Instances()[0].Cause())
	})
}

func TestUpdatesComeAsOftenAsNeeded(t *testing.T) {
	inBubble(t, "seldom while nothing is expected", func(t *testing.T) {
		group := &dummy.InstanceGroup{Preexisting: 1}
		start(t, group, fleeting.WithUpdateInterval(0), fleeting.WithUpdateIntervalWhenExpecting(-1))
		time.Sleep(10*time.Minute + time.Second)
		require.Equal(t, 11, group.CallCount("Update"))
	})
	inBubble(t, "often while something is expected", func(t *testing.T) {
		group := &dummy.InstanceGroup{}
		group.Add("slow", provider.StateCreating)
		group.SetState("slow", provider.StateCreating, true)
		start(t, group)
		time.Sleep(time.Minute + time.Second)
		require.Equal(t, 31, group.CallCount("Update"))
	})
	inBubble(t, "many wishes make few calls", func(t *testing.T) {
		group := &dummy.InstanceGroup{}
		p := start(t, group, fleeting.WithMaxSize(10_000))
		for range 1000 {
			p.Request(1)
			time.Sleep(time.Millisecond)
		}
		require.LessOrEqual(t, group.CallCount("Update"), 5)
		require.LessOrEqual(t, group.CallCount("Increase"), 3)
	})
	inBubble(t, "ever less often while they fail", func(t *testing.T) {
		group := &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Update": {Error: "rate limit exceeded"}}}
		p := start(t, group)
		p.Request(1)
		time.Sleep(10 * time.Minute)
		require.Equal(t, 14, group.CallCount("Update"), "2, 4, 8, ... 60 seconds")
		require.Zero(t, group.CallCount("Increase"), "nothing is done without a trustworthy update")
		require.Equal(t, 1, p.Capacity().Requested)
		group.SetFault("Update", dummy.Fault{})
		time.Sleep(time.Minute)
		require.Equal(t, 1, p.Capacity().Running)
	})
}

func TestVanishedInstanceTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group, told := &dummy.InstanceGroup{Preexisting: 1}, &events{}
		p := start(t, group, fleeting.WithSubscriber(told.subscriber))
		i := p.Instances()[0]
		group.Remove("dummy-1")
		time.Sleep(4*time.Minute + time.Second)
		require.Len(t, p.Instances(), 1)
		time.Sleep(time.Minute)
		require.Empty(t, p.Instances())
		require.Equal(t, provider.StateTimeout, i.State())
		require.Equal(t, []string{"dummy-1 running", "dummy-1 timeout"}, told.take())
		require.Zero(t, group.CallCount("Decrease"))
	})
}

func TestUndeletableInstanceHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := &dummy.InstanceGroup{}
		group.Add("wedged", provider.StateRunning)
		group.SetState("wedged", provider.StateRunning, true)
		p := start(t, group, fleeting.WithMaxSize(3))
		p.Instances()[0].Delete()
		p.Request(1)
		time.Sleep(3 * time.Second)
		require.Equal(t, fleeting.Capacity{Max: 3, Running: 1, Deleting: 1}, p.Capacity())
		time.Sleep(10 * time.Minute)
		require.Equal(t, 11, group.CallCount("Decrease"), "repeated once a minute or so")
	})
}

func TestReadyWait(t *testing.T) {
	wait := func(t *testing.T, i fleeting.Instance) <-chan bool {
		t.Helper()
		ready := make(chan bool, 1)
		go func() { ready <- i.ReadyWait(t.Context()) }()
		synctest.Wait()
		return ready
	}
	creating := func(t *testing.T) (*dummy.InstanceGroup, *fleeting.Provisioner, fleeting.Instance) {
		t.Helper()
		group := &dummy.InstanceGroup{}
		group.Add("a", provider.StateCreating)
		group.SetState("a", provider.StateCreating, true)
		p := start(t, group)
		return group, p, p.Instances()[0]
	}
	inBubble(t, "until it runs", func(t *testing.T) {
		group, _, i := creating(t)
		ready := wait(t, i)
		require.Empty(t, ready)
		group.SetState("a", provider.StateRunning, false)
		require.True(t, <-ready)
	})
	inBubble(t, "until it is going to be deleted", func(t *testing.T) {
		_, _, i := creating(t)
		ready := wait(t, i)
		i.Delete()
		require.False(t, <-ready)
	})
	inBubble(t, "until the cloud deletes it", func(t *testing.T) {
		group, _, i := creating(t)
		ready := wait(t, i)
		group.SetState("a", provider.StateDeleting, true)
		require.False(t, <-ready)
	})
	inBubble(t, "until the provisioner ends", func(t *testing.T) {
		_, p, i := creating(t)
		ready := wait(t, i)
		p.Shutdown(t.Context())
		require.False(t, <-ready)
	})
	inBubble(t, "until the context ends", func(t *testing.T) {
		_, _, i := creating(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.False(t, i.ReadyWait(ctx))
	})
}

func TestExcessiveRequestsAreCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := start(t, &dummy.InstanceGroup{}, fleeting.WithMaxSize(2))
		for range 3 {
			p.Request(math.MaxInt)
		}
		p.Request(-1)
		require.Equal(t, 2, p.Capacity().Requested)
		time.Sleep(time.Minute)
		require.Equal(t, 2, p.Capacity().Running)
		unlimited := start(t, &dummy.InstanceGroup{})
		require.Equal(t, 1_000_000, unlimited.Capacity().Max)
	})
}

func TestPartialIncrease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := &dummy.InstanceGroup{MaxSize: 2}
		group.Add("secret", provider.StateRunning)
		p := start(t, group)
		group.Remove("secret")
		group.Add("x1", provider.StateRunning)
		// The provisioner counts secret and x1; the group has room for one more.
		p.Request(1)
		time.Sleep(3 * time.Second)
		require.Equal(t, 2, len(p.Instances()))
		require.Equal(t, 1, p.Capacity().Requested)
		time.Sleep(10 * time.Minute)
		require.Equal(t, 2, p.Capacity().Running)
		require.Zero(t, p.Capacity().Requested)
	})
}

func TestRefusedRequestIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Increase": {Error: "quota exceeded", Calls: 1}}}
		p := start(t, group, fleeting.WithMaxSize(1))
		p.Request(1)
		time.Sleep(time.Minute)
		require.Equal(t, fleeting.Capacity{Max: 1}, p.Capacity())
		p.Request(1)
		time.Sleep(3 * time.Second)
		require.Equal(t, fleeting.Capacity{Max: 1, Running: 1}, p.Capacity())
	})
}

// losing loses the answer to the first increase.
type losing struct {
	*dummy.InstanceGroup
	once sync.Once
}

func (l *losing) Increase(ctx context.Context, n int) (succeeded int, err error) {
	succeeded, err = l.InstanceGroup.Increase(ctx, n)
	l.once.Do(func() { succeeded, err = 0, context.DeadlineExceeded })
	return succeeded, err
}

func TestLostAnswerDoesNotLeadAboveTheMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := &losing{InstanceGroup: &dummy.InstanceGroup{}}
		p := start(t, group, fleeting.WithMaxSize(2))
		p.Request(2)
		synctest.Wait()
		p.Request(2)
		time.Sleep(time.Hour)
		require.Len(t, group.List(), 2)
		require.Equal(t, 2, p.Capacity().Running)
		causes := []fleeting.Cause{p.Instances()[0].Cause(), p.Instances()[1].Cause()}
		require.Equal(t, []fleeting.Cause{fleeting.CauseRequested, fleeting.CauseRequested}, causes)
	})
}

func TestUnexpectedInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := &dummy.InstanceGroup{}
		p := start(t, group)
		group.Add("stranger", provider.StateRunning)
		time.Sleep(2 * time.Minute)
		require.Equal(t, fleeting.CauseUnexpected, p.Instances()[0].Cause())
	})
}

func TestMethodsAreSafeTogether(t *testing.T) {
	group := &dummy.InstanceGroup{Capabilities: []provider.Capability{provider.CapabilitySuspendResume}}
	p, err := fleeting.Init(t.Context(), nil, group, fleeting.WithMaxSize(20),
		fleeting.WithUpdateInterval(time.Millisecond), fleeting.WithUpdateIntervalWhenExpecting(time.Millisecond))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var users sync.WaitGroup
	for range 8 {
		users.Go(func() {
			for ctx.Err() == nil {
				p.Request(1)
				require.LessOrEqual(t, len(group.List()), 20)
				for n, i := range p.Instances() {
					switch n % 4 {
					case 0:
						i.Delete()
					case 1:
						i.Suspend()
					case 2:
						_ = i.Resume(ctx)
					default:
						_ = i.ReadyWait(ctx)
						_, _ = i.ConnectInfo(ctx)
					}
					_ = slices.Contains([]provider.State{provider.StateRunning}, i.State())
					_ = p.Capacity()
				}
			}
		})
	}
	users.Wait()
	p.Shutdown(t.Context())
	p.Shutdown(t.Context())
	p.Request(1)
	require.Equal(t, 1, group.CallCount("Shutdown"))
	err = func() error {
		for _, i := range p.Instances() {
			return i.Resume(t.Context())
		}
		return errors.New("the provisioner was shut down")
	}()
	require.ErrorContains(t, err, "the provisioner was shut down")
}
