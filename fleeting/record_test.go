package fleeting_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
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

var update = flag.Bool("update", false, "rewrite the files in testdata")

// syncBuffer is a buffer for several writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestLogLines compares the log of an eventful life with testdata/provisioner.log, whose messages and
// fields people search for.
func TestLogLines(t *testing.T) {
	var log syncBuffer
	synctest.Test(t, func(t *testing.T) {
		group := &dummy.InstanceGroup{Name: "eventful", Capabilities: []provider.Capability{provider.CapabilitySuspendResume}}
		group.Add("old", provider.StateRunning)
		logger := hclog.New(&hclog.LoggerOptions{Name: "taskscaler", Output: &log, DisableTime: true})
		p, err := fleeting.Init(t.Context(), logger, group, fleeting.WithMaxSize(3), fleeting.WithDeleteInstancesOnShutdown())
		require.NoError(t, err)

		p.Request(2)
		time.Sleep(3 * time.Second)
		p.Request(1)
		time.Sleep(time.Minute)
		group.SetFault("Decrease", dummy.Fault{Error: "locked", Calls: 1})
		p.Instances()[0].Delete()
		time.Sleep(30 * time.Second)

		group.SetFault("Increase", dummy.Fault{Error: "quota exceeded", Calls: 1})
		p.Instances()[0].Delete()
		time.Sleep(10 * time.Second)
		p.Request(1)
		time.Sleep(10 * time.Second)

		group.SetFault("Update", dummy.Fault{Error: "rate limit exceeded", Calls: 2})
		time.Sleep(2 * time.Minute)
		group.Add("stranger", "odd")
		group.SetState("stranger", "odd", true)
		time.Sleep(time.Minute)
		group.Remove("stranger")
		time.Sleep(time.Minute)
		p.Instances()[0].Suspend()
		time.Sleep(3 * time.Second)
		require.NoError(t, p.Instances()[0].Resume(t.Context()))
		p.Shutdown(t.Context())
	})
	if *update {
		require.NoError(t, os.WriteFile("testdata/provisioner.log", []byte(log.String()), 0o644))
	}
	golden, err := os.ReadFile("testdata/provisioner.log")
	require.NoError(t, err)
	require.Equal(t, string(golden), log.String())
}

// figures records what a collector is told.
type figures struct {
	mu     sync.Mutex
	gauges map[string]int
	sums   map[string]int
	times  map[string][]time.Duration
}

func newFigures() *figures {
	return &figures{gauges: map[string]int{}, sums: map[string]int{}, times: map[string][]time.Duration{}}
}

func (f *figures) set(name string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gauges[name] = n
}

func (f *figures) add(name string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sums[name] += n
}

func (f *figures) observe(name string, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.times[name] = append(f.times[name], d)
}

// gauge, sum and durations read what was recorded.
func (f *figures) gauge(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gauges[name]
}

func (f *figures) sum(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sums[name]
}

func (f *figures) durations(name string) []time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.times[name])
}

func (f *figures) SetInstances(state string, n int)             { f.set(state, n) }
func (f *figures) SetMaxInstances(n int)                        { f.set("max", n) }
func (f *figures) AddMissedUpdates(n int)                       { f.add("missed", n) }
func (f *figures) AddInstanceOperations(op string, n int)       { f.add(op, n) }
func (f *figures) AddInternalOperations(op string, n int)       { f.add("internal "+op, n) }
func (f *figures) ObserveInstanceCreationTime(d time.Duration)  { f.observe("creation", d) }
func (f *figures) ObserveInstanceIsRunningTime(d time.Duration) { f.observe("running", d) }
func (f *figures) ObserveInstanceDeletionTime(d time.Duration)  { f.observe("deletion", d) }
func (f *figures) ObserveInstanceLifeDuration(d time.Duration)  { f.observe("life", d) }

func TestFigures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFigures()
		group := &dummy.InstanceGroup{Preexisting: 1, Capabilities: []provider.Capability{provider.CapabilitySuspendResume}}
		p := start(t, group, fleeting.WithMaxSize(4), fleeting.WithMetricsCollector(f))
		p.Request(2)
		synctest.Wait()
		require.Equal(t, 2, f.gauge("pending"))
		require.Equal(t, 0, f.gauge("requested"))
		time.Sleep(3 * time.Second)
		require.Equal(t, []time.Duration{2 * time.Second, 2 * time.Second}, f.durations("creation"))
		require.Equal(t, []time.Duration{2 * time.Second, 2 * time.Second}, f.durations("running"))
		require.Equal(t, 3, f.gauge("running"))
		require.Equal(t, 4, f.gauge("max"))
		p.Instances()[0].Delete()
		synctest.Wait()
		require.Equal(t, 1, f.gauge("deleting"))
		time.Sleep(3 * time.Second)
		p.Instances()[0].Suspend()
		synctest.Wait()
		require.Equal(t, 1, f.gauge("suspending"))
		group.Remove("dummy-3")
		time.Sleep(10 * time.Minute)
		require.Equal(t, []time.Duration{2 * time.Second}, f.durations("deletion"))
		require.Len(t, f.durations("life"), 2)
		require.Equal(t, 1, f.gauge("suspended"))
		require.Equal(t, 5, f.sum("missed"))
		require.NoError(t, p.Instances()[0].Resume(t.Context()))
		p.Shutdown(t.Context())
		require.Equal(t, map[string]int{"create": 2, "delete": 1, "suspend": 1, "resume": 1}, map[string]int{
			"create": f.sum("create"), "delete": f.sum("delete"), "suspend": f.sum("suspend"), "resume": f.sum("resume"),
		})
		require.Subset(t, slices.Collect(maps.Keys(f.sums)), []string{
			"internal reconcile", "internal prune", "internal removal", "internal provision", "internal suspend",
			"internal resume", "internal notify",
		})
	})
}

func ExampleInit() {
	p, err := fleeting.Init(context.Background(), nil, &dummy.InstanceGroup{Preexisting: 1}, fleeting.WithMaxSize(3))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Shutdown(context.Background())
	for _, i := range p.Instances() {
		fmt.Println(i.ID(), i.State(), i.Cause())
	}
	// Output: dummy-1 running preexisted
}
