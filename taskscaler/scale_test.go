package taskscaler

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/plugin/simulated"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// ward passes everything on to a simulated cloud and checks that no instance with a task on it is
// deleted.
type ward struct {
	*simulated.Group
	t *testing.T

	mu       sync.Mutex
	occupied map[string]int
	served   map[string]int
}

func newWard(t *testing.T, config simulated.Config) *ward {
	return &ward{Group: simulated.New(config), t: t, occupied: map[string]int{}, served: map[string]int{}}
}

func (w *ward) Decrease(ctx context.Context, ids []string) ([]string, error) {
	w.mu.Lock()
	for _, id := range ids {
		if w.occupied[id] > 0 {
			w.t.Errorf("instance %s is deleted with a task on it", id)
		}
	}
	w.mu.Unlock()
	return w.Group.Decrease(ctx, ids)
}

// occupy puts n tasks on an instance, or takes them off it.
func (w *ward) occupy(id string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.occupied[id] += n
	if n > 0 {
		w.served[id]++
	}
}

func newWardScaler(t *testing.T, w provider.InstanceGroup, options ...Option) Taskscaler {
	ts, err := New(context.Background(), w, append([]Option{WithLogger(hclog.NewNullLogger()), WithReservations()}, options...)...)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		ts.Shutdown(ctx)
	})
	return ts
}

func TestABurstOf300InstancesTakesLittleMoreThanOneBoot(t *testing.T) {
	const instances, boot = 300, 45 * time.Second
	bubble(t, func(t *testing.T) {
		w := newWard(t, simulated.Config{MaxSize: instances, BootTime: boot, Latency: 200 * time.Millisecond})
		ts := newWardScaler(t, w, WithMaxInstances(instances), WithMaxUseCount(1))
		before := time.Now()
		var tasks sync.WaitGroup
		for i := range instances {
			tasks.Go(func() {
				key := fmt.Sprint(i)
				if err := ts.Reserve(key); err != nil {
					t.Error(err)
				}
				if _, err := ts.Acquire(context.Background(), key); err != nil {
					t.Error(err)
				}
			})
		}
		tasks.Wait()
		took := time.Since(before)
		t.Logf("%d instances in %s, one boots in %s", instances, took, boot)
		require.LessOrEqual(t, took, boot*12/10)
		require.Equal(t, instances, w.Stats().Created)
	})
}

func TestAThousandInstancesServeFiveThousandTasksInAnUnreliableCloud(t *testing.T) {
	const instances, tasks, uses = 1000, 5000, 7
	bubble(t, func(t *testing.T) {
		w := newWard(t, simulated.Config{
			MaxSize: instances, BootTime: 20 * time.Second, BootJitter: 20 * time.Second, StopTime: 10 * time.Second,
			ListDelay: 3 * time.Second, Latency: 300 * time.Millisecond, RateLimit: 1000,
			CallFailureRate: 0.02, FailedBootRate: 0.02, HeartbeatFailureRate: 0.01, Seed: 7,
		})
		ts := newWardScaler(t, w, WithMaxInstances(instances), WithMaxUseCount(uses), WithScaleThrottle(-1, 0),
			WithHeartbeatFunc(func(context.Context, provider.ConnectInfo) error { return nil }))
		require.NoError(t, ts.ConfigureSchedule(Schedule{IdleCount: 20, IdleTime: time.Minute, ScaleFactor: 0.1, ScaleFactorLimit: 50}))

		before := time.Now()
		random := rand.New(rand.NewPCG(1, 2))
		var running sync.WaitGroup
		for i := range tasks {
			arrival := time.Duration(random.Int64N(int64(5 * time.Minute)))
			length := time.Duration(random.Int64N(int64(4 * time.Minute)))
			running.Go(func() {
				time.Sleep(arrival)
				key := fmt.Sprint(i)
				a, err := ts.Acquire(context.Background(), key)
				if err != nil {
					t.Error(err)
					return
				}
				w.occupy(a.InstanceID(), 1)
				time.Sleep(length)
				w.occupy(a.InstanceID(), -1)
				ts.Release(key)
			})
		}
		running.Wait()
		stats := w.Stats()
		t.Logf("%d tasks took %s on %d instances, %d at most at the same time", tasks, time.Since(before), stats.Created, stats.Peak)
		require.Equal(t, instances, stats.Peak)
		for id, n := range w.served {
			require.LessOrEqual(t, n, uses, "tasks on instance %s", id)
		}

		require.NoError(t, ts.ConfigureSchedule(Schedule{}))
		time.Sleep(10 * time.Minute)
		require.Empty(t, w.Instances())
		available, potential := ts.Capacity()
		require.Equal(t, []int{0, instances}, []int{available, potential})
	})
}

func TestAnIdleInstanceTakesLittleMemory(t *testing.T) {
	const instances, limit = 1000, 64 << 10
	bubble(t, func(t *testing.T) {
		heap := func() uint64 {
			runtime.GC()
			runtime.GC() // what the first one only prepared for release
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			return stats.HeapAlloc
		}
		w := newWard(t, simulated.Config{BootTime: time.Second})
		ts := newWardScaler(t, w, WithCapacityPerInstance(4), WithScaleThrottle(-1, 0),
			WithInstanceUpFunc(func(Taskscaler, UpFuncInstance) error { return nil }), WithStorage(newStorage(t, t.TempDir())))
		before, goroutines := heap(), runtime.NumGoroutine()
		require.NoError(t, ts.ConfigureSchedule(Schedule{IdleCount: 4 * instances}))
		time.Sleep(time.Minute)
		available, _ := ts.Capacity()
		require.Equal(t, 4*instances, available)
		each := (int64(heap()) - int64(before)) / instances
		t.Logf("%d bytes per idle instance, the simulated cloud's share included", each)
		require.Less(t, each, int64(limit))
		require.LessOrEqual(t, runtime.NumGoroutine(), goroutines, "none per instance")
	})
}

// BenchmarkTask measures one reservation, acquisition and release with a thousand idle instances.
func BenchmarkTask(b *testing.B) {
	w := simulated.New(simulated.Config{})
	ts, err := New(context.Background(), w, WithReservations(), WithScaleThrottle(-1, 0), WithUpdateIntervalWhenExpecting(10*time.Millisecond))
	require.NoError(b, err)
	defer ts.Shutdown(context.Background())
	require.NoError(b, ts.ConfigureSchedule(Schedule{IdleCount: 1000, IdleTime: time.Hour}))
	for available := 0; available < 1000; available, _ = ts.Capacity() {
		time.Sleep(time.Millisecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := ts.Reserve("key"); err != nil {
			b.Fatal(err)
		}
		if _, err := ts.Acquire(context.Background(), "key"); err != nil {
			b.Fatal(err)
		}
		ts.Release("key")
	}
}
