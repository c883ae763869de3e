package taskscaler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errTest = errors.New("it failed")

// group is an instance group whose instances do what the test tells them; by default they boot in
// bootTime and are deleted at once. It fails the test if an instance with a task on it is deleted.
type group struct {
	t            *testing.T
	maxSize      int
	bootTime     time.Duration
	capabilities []provider.Capability

	mu        sync.Mutex
	instances []*machine
	created   int
	refuse    bool // Increase fails
	deaf      bool // Update fails
	mute      bool // ConnectInfo fails
	sick      map[string]bool
	down      bool // the plugin
	occupied  map[string]int
	calls     map[string]int
	deleted   []string
	shutdown  bool
	address   int
}

type machine struct {
	id    string
	state provider.State
	born  time.Time
	// address changes when the machine is stopped and started.
	address int
}

func newGroup(t *testing.T, maxSize int) *group {
	return &group{t: t, maxSize: maxSize, sick: map[string]bool{}, occupied: map[string]int{}, calls: map[string]int{}}
}

func (g *group) Init(context.Context, hclog.Logger, provider.Settings) (provider.ProviderInfo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shutdown = false
	return provider.ProviderInfo{ID: "test", MaxSize: g.maxSize, Capabilities: g.capabilities}, nil
}

func (g *group) Update(_ context.Context, fn func(string, provider.State)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls["Update"]++
	if g.deaf || g.down {
		return g.failure()
	}
	for _, m := range g.instances {
		switch m.state {
		case provider.StateCreating, provider.StateResuming:
			if time.Since(m.born) >= g.bootTime {
				m.state = provider.StateRunning
			}
		case provider.StateSuspending:
			m.state = provider.StateSuspended
		}
		fn(m.id, m.state)
	}
	g.instances = slices.DeleteFunc(g.instances, func(m *machine) bool { return m.state == provider.StateDeleting })
	return nil
}

func (g *group) Increase(_ context.Context, n int) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls["Increase"]++
	if g.refuse {
		return 0, errTest
	}
	for range n {
		g.created++
		g.add(fmt.Sprint("i-", g.created), provider.StateCreating)
	}
	if len(g.instances) > g.maxSize {
		g.t.Errorf("%d instances, the maximum is %d", len(g.instances), g.maxSize)
	}
	return n, nil
}

// add must be called with the lock held.
func (g *group) add(id string, state provider.State) {
	g.address++
	g.instances = append(g.instances, &machine{id: id, state: state, born: time.Now(), address: g.address})
}

func (g *group) Decrease(_ context.Context, ids []string) ([]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls["Decrease"]++
	for _, id := range ids {
		if n := g.occupied[id]; n > 0 {
			g.t.Errorf("instance %s is deleted with %d tasks on it", id, n)
		}
		g.deleted = append(g.deleted, id)
		if m := g.find(id); m != nil {
			m.state = provider.StateDeleting
		}
	}
	return ids, nil
}

func (g *group) ConnectInfo(_ context.Context, id string) (provider.ConnectInfo, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls["ConnectInfo"]++
	m := g.find(id)
	if m == nil || g.mute || g.down {
		return provider.ConnectInfo{}, g.failure()
	}
	return provider.ConnectInfo{
		ID: id, InternalAddr: fmt.Sprint("192.0.2.", m.address),
		ConnectorConfig: provider.ConnectorConfig{Username: "root", Key: []byte("secret")},
	}, nil
}

func (g *group) Heartbeat(_ context.Context, id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls["Heartbeat"]++
	if g.down || g.sick[id] {
		return g.failure()
	}
	return nil
}

// failure is the error of a call that fails.
func (g *group) failure() error {
	if g.down {
		return fmt.Errorf("plugin %w", fleeting.ErrPluginNotRunning)
	}
	return errTest
}

func (g *group) Suspend(_ context.Context, ids []string) ([]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls["Suspend"]++
	for _, id := range ids {
		if n := g.occupied[id]; n > 0 {
			g.t.Errorf("instance %s is suspended with %d tasks on it", id, n)
		}
		if m := g.find(id); m != nil {
			m.state = provider.StateSuspending
		}
	}
	return ids, nil
}

func (g *group) Resume(_ context.Context, ids []string) ([]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls["Resume"]++
	for _, id := range ids {
		if m := g.find(id); m != nil {
			g.address++
			m.state, m.born, m.address = provider.StateResuming, time.Now(), g.address
		}
	}
	return ids, nil
}

func (g *group) Shutdown(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shutdown = true
	return nil
}

func (g *group) find(id string) *machine {
	for _, m := range g.instances {
		if m.id == id {
			return m
		}
	}
	return nil
}

// with runs a function that changes the group.
func (g *group) with(fn func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fn()
}

// vanish takes an instance away; it is occupied no more.
func (g *group) vanish(id string) {
	g.with(func() {
		g.instances = slices.DeleteFunc(g.instances, func(m *machine) bool { return m.id == id })
		delete(g.occupied, id)
	})
}

// ids returns the instances that exist and are not being deleted.
func (g *group) ids() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := []string{}
	for _, m := range g.instances {
		if m.state != provider.StateDeleting {
			list = append(list, m.id)
		}
	}
	return list
}

// total is the number of instances ever created.
func (g *group) total() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.created
}

// deletions returns the instances whose deletion was asked for.
func (g *group) deletions() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.deleted)
}

func (g *group) stateOf(id string) provider.State {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m := g.find(id); m != nil {
		return m.state
	}
	return provider.StateDeleted
}

func (g *group) count(method string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.calls[method]
}

func (g *group) occupy(id string, n int) {
	g.with(func() {
		if g.find(id) != nil {
			g.occupied[id] += n
		}
	})
}

// journal is a logger that keeps its lines as "level message key=value ...".
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Output: j, JSONFormat: true, Level: hclog.Trace})
}

// lines returns what was logged with one of the messages, or everything.
func (j *journal) lines(messages ...string) []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	list := []string{}
	for line := range strings.Lines(j.text.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil {
			continue
		}
		message := fields["@message"].(string)
		if len(messages) > 0 && !slices.Contains(messages, message) {
			continue
		}
		text := fields["@level"].(string) + " " + message
		var keys []string
		for key := range fields {
			if !strings.HasPrefix(key, "@") {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		for _, key := range keys {
			text += fmt.Sprintf(" %s=%v", key, fields[key])
		}
		list = append(list, text)
	}
	return list
}

// rig is a scaler on a group, in a bubble of its own time.
type rig struct {
	*scaler
	t       *testing.T
	group   *group
	journal *journal
}

func start(t *testing.T, g *group, options ...Option) *rig {
	t.Helper()
	j := &journal{}
	ctx, cancel := context.WithCancel(context.Background())
	ts, err := New(ctx, g, append([]Option{WithLogger(j.logger()), WithUpdateIntervalWhenExpecting(100 * time.Millisecond), WithReservations()}, options...)...)
	require.NoError(t, err)
	cancel() // nothing may depend on it
	r := &rig{scaler: ts.(*scaler), t: t, group: g, journal: j}
	t.Cleanup(func() {
		r.stopNow()
		if t.Failed() {
			t.Log(strings.Join(j.lines(), "\n"))
		}
	})
	return r
}

func (r *rig) stopNow() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r.Shutdown(ctx)
}

func (r *rig) schedule(s Schedule) {
	r.t.Helper()
	require.NoError(r.t, r.ConfigureSchedule(s))
}

// acquire gets a slot within a time and marks the instance as occupied.
func (r *rig) acquire(key string, within time.Duration) Acquisition {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	a, err := r.Acquire(ctx, key)
	require.NoError(r.t, err)
	r.group.occupy(a.InstanceID(), 1)
	return a
}

func (r *rig) release(a Acquisition) {
	r.group.occupy(a.InstanceID(), -1)
	r.Release(a.Key())
}

// wait lets time pass and everything that follows happen.
func (r *rig) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// requireEmpty checks that the scaler keeps nothing but a number of instances.
func (r *rig) requireEmpty(instances int) {
	r.t.Helper()
	var acquisitions, offers []string
	var members, known int
	r.ask(func(time.Time) {
		acquisitions = slices.Collect(maps.Keys(r.acquisitions))
		offers = slices.Collect(maps.Keys(r.offers))
		members, known = len(r.members), len(r.known)
	})
	require.Empty(r.t, acquisitions)
	require.Empty(r.t, offers)
	require.Equal(r.t, []int{instances, instances}, []int{members, known})
}

// bubble runs a test in fake time.
func bubble(t *testing.T, fn func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, fn)
}

// failingGroup cannot be initialised.
type failingGroup struct{ *group }

func (failingGroup) Init(context.Context, hclog.Logger, provider.Settings) (provider.ProviderInfo, error) {
	return provider.ProviderInfo{}, errTest
}
