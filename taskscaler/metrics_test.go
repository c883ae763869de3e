package taskscaler

import (
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	fleetingmetrics "gitlab.com/gitlab-org/fleeting/fleeting/metrics"

	"gitlab.com/gitlab-org/fleeting/taskscaler/metrics"
)

// figures is a collector that remembers everything.
type figures struct {
	mu        sync.Mutex
	gauges    map[string]int
	counters  map[string]int
	readiness []time.Duration
}

func newFigures() *figures {
	return &figures{gauges: map[string]int{}, counters: map[string]int{}}
}

func (f *figures) set(name string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gauges[name] = n
}

func (f *figures) add(name string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counters[name] += n
}

// snapshot returns the gauges that are not zero and the counters.
func (f *figures) snapshot() (gauges, counters map[string]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gauges = maps.Clone(f.gauges)
	maps.DeleteFunc(gauges, func(_ string, n int) bool { return n == 0 })
	return gauges, maps.Clone(f.counters)
}

func (f *figures) SetTasks(state string, n int)              { f.set("tasks "+state, n) }
func (f *figures) SetMaxTasksPerInstance(n int)              { f.set("max tasks", n) }
func (f *figures) SetMaxUseCountPerInstance(n int)           { f.set("max uses", n) }
func (f *figures) SetDesiredInstances(n int)                 { f.set("desired", n) }
func (f *figures) AddTaskOperations(operation string, n int) { f.add(operation, n) }
func (f *figures) AddScaleOperations(operation string, n int) {
	f.add("scale "+operation, n)
}

func (f *figures) ObserveTaskInstanceReadinessTime(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readiness = append(f.readiness, d)
}

func TestFiguresFollowWhatHappens(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 2)
		f := newFigures()
		r := start(t, g, WithMetricsCollector(f), WithCapacityPerInstance(3), WithMaxUseCount(4), WithReservationThrottling(),
			WithInstanceUpFunc(func(Taskscaler, UpFuncInstance) error {
				time.Sleep(4 * time.Second)
				return nil
			}))
		require.Same(t, f, r.MetricsCollector())
		require.Equal(t, fleetingmetrics.NewNoop(), r.FleetingMetricsCollector())

		r.schedule(Schedule{IdleTime: time.Hour, PreemptiveMode: true})
		require.Error(t, r.Reserve("refused"))
		r.schedule(Schedule{IdleTime: time.Hour})
		require.NoError(t, r.Reserve("a"))
		a := r.acquire("a", time.Minute)
		b := r.acquire("b", time.Minute)
		r.release(b)
		require.NoError(t, r.Reserve("c"))
		require.Error(t, r.Reserve("d"), "throttled")
		r.wait(time.Second)
		gauges, counters := f.snapshot()
		require.Equal(t, map[string]int{
			"max tasks": 3, "max uses": 4, "desired": 1, "tasks acquired": 1, "tasks idle": 2, "tasks reserved": 1,
		}, gauges)
		require.Equal(t, map[string]int{
			"reserve": 2, "reserve_available_capacity_failure": 1, "reserve_throttled": 1, "acquire": 2, "release": 1, "scale up": 1,
		}, counters)
		require.Equal(t, []time.Duration{4 * time.Second}, f.readiness)

		r.Unreserve("c")
		r.suspendTask(a)
		r.wait(time.Minute)
		gauges, _ = f.snapshot()
		require.Equal(t, map[string]int{"max tasks": 3, "max uses": 4, "tasks suspended": 1}, gauges)
		again, err := r.Resume(t.Context(), "a")
		require.NoError(t, err)
		g.occupy("i-1", 1)
		r.release(again)

		c, d := r.acquire("c", time.Minute), r.acquire("d", time.Minute)
		r.wait(time.Second)
		gauges, _ = f.snapshot()
		require.Equal(t, map[string]int{
			"max tasks": 3, "max uses": 4, "desired": 1, "tasks acquired": 2, "tasks unavailable": 1,
		}, gauges, "four uses were made")
		g.with(func() { g.maxSize = 1 })
		r.release(c)
		r.release(d)
		r.wait(time.Minute)
		gauges, counters = f.snapshot()
		require.Equal(t, map[string]int{"max tasks": 3, "max uses": 4}, gauges)
		require.Equal(t, 1, counters["scale down"])
		require.Equal(t, []int{1, 1, 1}, []int{counters["suspend"], counters["resume"], counters["unreserve"]})
	})
}

func TestReservationsBeyondEverythingAreCountedApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFigures()
		r := start(t, newGroup(t, 1), WithMetricsCollector(f))
		r.acquire("a", time.Minute)
		require.Error(t, r.Reserve("b"))
		_, counters := f.snapshot()
		require.Equal(t, 1, counters[metrics.OperationReservePotentialFailure])
	})
}
