package static

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

var errRefused = errors.New("connection refused")

// fakeReach is hosts of which some are down, and whose reset takes a minute.
type fakeReach struct {
	mu     sync.Mutex
	down   map[string]bool
	broken map[string]int // how often the reset still fails
	runs   []string
}

func (r *fakeReach) Probe(_ context.Context, addr string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down[addr] {
		return errRefused
	}
	return nil
}

func (r *fakeReach) Run(ctx context.Context, info provider.ConnectInfo, command string, _ bool) error {
	select {
	case <-time.After(time.Minute):
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs = append(r.runs, info.ID+": "+command)
	if r.broken[info.ID] > 0 {
		r.broken[info.ID]--
		return errors.New("exit status 1")
	}
	return nil
}

func (r *fakeReach) ran() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.runs)
}

func started(t *testing.T, reach reach, stateFile string, c Config) *InstanceGroup {
	t.Helper()
	c.StateFile = stateFile
	g := &InstanceGroup{Config: c, reach: reach}
	_, err := g.Init(t.Context(), hclog.NewNullLogger(), defaults)
	require.NoError(t, err)
	return g
}

func hosts(n int) Hosts {
	var out Hosts
	for i := range n {
		name := fmt.Sprintf("host-%d", i+1)
		out = append(out, Host{Name: name, Addr: name})
	}
	return out
}

func states(t *testing.T, g *InstanceGroup) map[string]provider.State {
	t.Helper()
	out := map[string]provider.State{}
	require.NoError(t, g.Update(t.Context(), func(id string, s provider.State) { out[id] = s }))
	return out
}

func TestInit(t *testing.T) {
	g := &InstanceGroup{Config: Config{Instances: hosts(3), StateFile: filepath.Join(t.TempDir(), "new", "state.json")}, Version: "1.2", BuildInfo: "x"}
	info, err := g.Init(t.Context(), hclog.NewNullLogger(), defaults)
	require.NoError(t, err)
	require.Equal(t, provider.ProviderInfo{ID: "static/static", MaxSize: 3, Version: "1.2", BuildInfo: "x"}, info)
	require.Empty(t, states(t, g), "no host is an instance before it is claimed")
	require.NoError(t, g.Shutdown(t.Context()))
}

func TestHostsAreClaimedInOrderAndReleased(t *testing.T) {
	g := started(t, &fakeReach{}, filepath.Join(t.TempDir(), "s"), Config{Instances: hosts(3)})
	n, err := g.Increase(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, map[string]provider.State{"host-1": provider.StateRunning, "host-2": provider.StateRunning}, states(t, g))

	gone, err := g.Decrease(t.Context(), []string{"host-1", "nobody"})
	require.NoError(t, err)
	require.Equal(t, []string{"host-1", "nobody"}, gone, "what is no instance is gone already")

	n, err = g.Increase(t.Context(), 2)
	require.ErrorContains(t, err, "1 of 2 hosts")
	require.Equal(t, 1, n, "host-1 is not used again before it was seen to be gone")
	require.Equal(t, map[string]provider.State{
		"host-1": provider.StateDeleted, "host-2": provider.StateRunning, "host-3": provider.StateRunning,
	}, states(t, g))

	n, err = g.Increase(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Len(t, states(t, g), 3)
	require.NoError(t, g.Shutdown(t.Context()))
}

func TestHostsThatDoNotAnswerArePassedOver(t *testing.T) {
	r := &fakeReach{down: map[string]bool{"host-1:22": true, "host-3:22": true}}
	g := started(t, r, filepath.Join(t.TempDir(), "s"), Config{Instances: hosts(4)})
	n, err := g.Increase(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, map[string]provider.State{"host-2": provider.StateRunning, "host-4": provider.StateRunning}, states(t, g))

	n, err = g.Increase(t.Context(), 1)
	require.Zero(t, n)
	require.ErrorContains(t, err, `host "host-1" does not answer at host-1:22: connection refused`)
	require.ErrorContains(t, err, "0 of 1 hosts")
	require.NoError(t, g.Shutdown(t.Context()))
}

func TestHeartbeatLooksAtTheHost(t *testing.T) {
	r := &fakeReach{down: map[string]bool{}}
	g := started(t, r, filepath.Join(t.TempDir(), "s"), Config{Instances: hosts(1)})
	require.NoError(t, g.Heartbeat(t.Context(), "host-1"))
	require.ErrorIs(t, g.Heartbeat(t.Context(), "nobody"), provider.ErrInstanceUnhealthy)
	r.down["host-1:22"] = true
	require.ErrorIs(t, g.Heartbeat(t.Context(), "host-1"), provider.ErrInstanceUnhealthy)
	require.NoError(t, g.Shutdown(t.Context()))
}

func TestAHostIsNotHandedOutBeforeItsResetSucceeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &fakeReach{broken: map[string]int{"host-1": 2}}
		g := started(t, r, filepath.Join(t.TempDir(), "s"), Config{Instances: hosts(1), ResetCommand: "wipe"})
		_, err := g.Increase(t.Context(), 1)
		require.NoError(t, err)
		_, err = g.Decrease(t.Context(), []string{"host-1"})
		require.NoError(t, err)

		// Three runs of a minute with pauses of 5 and 10 seconds.
		end := time.Now().Add(3*time.Minute + 15*time.Second)
		for time.Now().Before(end) {
			require.Equal(t, map[string]provider.State{"host-1": provider.StateDeleting}, states(t, g))
			n, err := g.Increase(t.Context(), 1)
			require.Error(t, err)
			require.Zero(t, n)
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		require.Equal(t, []string{"host-1: wipe", "host-1: wipe", "host-1: wipe"}, r.runs)
		require.Equal(t, map[string]provider.State{"host-1": provider.StateDeleted}, states(t, g))
		n, err := g.Increase(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

func TestARestartLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "s")
		c := Config{Instances: hosts(3), ResetCommand: "wipe"}
		g := started(t, &fakeReach{}, file, c)
		_, err := g.Increase(t.Context(), 2)
		require.NoError(t, err)
		_, err = g.Decrease(t.Context(), []string{"host-2"})
		require.NoError(t, err)
		time.Sleep(30 * time.Second)
		require.NoError(t, g.Shutdown(t.Context()), "the reset is cut off")

		r := &fakeReach{}
		g = started(t, r, file, c)
		require.Equal(t, map[string]provider.State{"host-1": provider.StateRunning, "host-2": provider.StateDeleting}, states(t, g))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"host-2: wipe"}, r.runs)
		require.NoError(t, g.Shutdown(t.Context()))

		g = started(t, &fakeReach{}, file, c)
		require.Equal(t, map[string]provider.State{"host-1": provider.StateRunning}, states(t, g))
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

func TestNothingIsClaimedThatCannotBeWrittenDown(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	g := started(t, &fakeReach{}, filepath.Join(dir, "s"), Config{Instances: hosts(1)})
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, os.WriteFile(dir, nil, 0o600))
	n, err := g.Increase(t.Context(), 1)
	require.Zero(t, n)
	require.ErrorContains(t, err, "plugin_config state_file:")
	require.Empty(t, states(t, g))
	require.NoError(t, g.Shutdown(t.Context()))
}

func TestADamagedStateFileIsNamed(t *testing.T) {
	for name, text := range map[string]string{"cut": `{"hosts":`, "odd": `{"hosts": {"a": "eaten"}}`} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "s")
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			g := &InstanceGroup{Config: Config{Instances: hosts(1), StateFile: file}}
			_, err := g.Init(t.Context(), hclog.NewNullLogger(), defaults)
			require.ErrorContains(t, err, "plugin_config state_file: "+file+" is damaged")
		})
	}
}

func TestAHostThatIsNotListedAnyMoreIsNoInstance(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s")
	g := started(t, &fakeReach{}, file, Config{Instances: hosts(2)})
	_, err := g.Increase(t.Context(), 2)
	require.NoError(t, err)
	require.NoError(t, g.Shutdown(t.Context()))

	var logged strings.Builder
	g = &InstanceGroup{Config: Config{Instances: hosts(1), StateFile: file}}
	_, err = g.Init(t.Context(), hclog.New(&hclog.LoggerOptions{Output: &logged}), defaults)
	require.NoError(t, err)
	require.Contains(t, logged.String(), "not listed any more")
	require.Contains(t, logged.String(), "host-2")
	require.Equal(t, []string{"host-1"}, keys(states(t, g)))
	require.NoError(t, g.Shutdown(t.Context()))
}

func keys(m map[string]provider.State) []string {
	var out []string
	for k := range maps.Keys(m) {
		out = append(out, k)
	}
	return out
}

func TestManyHostsAreProbedSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := started(t, &slowReach{}, filepath.Join(t.TempDir(), "s"), Config{Instances: hosts(64)})
		begun := time.Now()
		n, err := g.Increase(t.Context(), 64)
		require.NoError(t, err)
		require.Equal(t, 64, n)
		require.Equal(t, 4*time.Second, time.Since(begun), "16 at once, a second each")
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

// slowReach answers after a second.
type slowReach struct{ fakeReach }

func (*slowReach) Probe(context.Context, string) error {
	time.Sleep(time.Second)
	return nil
}

func TestAProcessThatDoesNotOwnTheStateFileOnlyLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state", "hosts.json")
		config := Config{Name: "lab", Instances: hosts(3), ResetCommand: "clean"}
		reach := &fakeReach{broken: map[string]int{"host-1": 99}}
		owner := started(t, reach, file, config)
		made, err := owner.Increase(t.Context(), 2)
		require.NoError(t, err)
		require.Equal(t, 2, made)
		_, err = owner.Decrease(t.Context(), []string{"host-1"})
		require.NoError(t, err)
		want := map[string]provider.State{"host-1": provider.StateDeleting, "host-2": provider.StateRunning}
		require.Equal(t, want, states(t, owner))
		before, err := os.ReadFile(file)
		require.NoError(t, err)

		guestReach := &fakeReach{}
		guest := started(t, guestReach, file, config)
		require.Equal(t, want, states(t, guest))
		_, err = guest.ConnectInfo(t.Context(), "host-2")
		require.NoError(t, err)
		const refusal = "hosts.json is in use by another process, this one may only look"
		_, err = guest.Increase(t.Context(), 1)
		require.ErrorContains(t, err, refusal)
		_, err = guest.Decrease(t.Context(), []string{"host-2"})
		require.ErrorContains(t, err, refusal)
		time.Sleep(time.Hour)
		require.Empty(t, guestReach.ran(), "the owner resets its hosts")
		after, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after))

		_, err = owner.Increase(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, provider.StateRunning, states(t, guest)["host-3"], "it sees what the owner does")

		require.NoError(t, owner.Shutdown(t.Context()))
		_, err = guest.Decrease(t.Context(), []string{"host-2"})
		require.NoError(t, err, "the next one takes up what the owner left")
		time.Sleep(5 * time.Minute)
		require.ElementsMatch(t, []string{"host-1: clean", "host-2: clean"}, guestReach.ran())
		require.NoError(t, guest.Shutdown(t.Context()))
	})
}
