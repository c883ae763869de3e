package fleeting_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/plugin/simulated"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestBurstTakesLittleMoreThanOneBoot(t *testing.T) {
	tests := map[string]simulated.Config{
		"asynchronous cloud":      {BootTime: time.Minute, Latency: 300 * time.Millisecond, RateLimit: 5},
		"cloud that blocks":       {BootTime: time.Minute, BlockingIncrease: true},
		"cloud that lists late":   {BootTime: time.Minute, ListDelay: 10 * time.Second},
		"cloud that fails a call": {BootTime: time.Minute, CallFailureRate: 0.2, Seed: 1},
	}
	for name, cfg := range tests {
		inBubble(t, name, func(t *testing.T) {
			group := simulated.New(cfg)
			p := start(t, group, fleeting.WithMaxSize(1000))
			begin := time.Now()
			for c := p.Capacity(); c.Running < 300; c = p.Capacity() {
				p.Request(300 - c.Requested - c.Pending - c.Creating - c.Running)
				time.Sleep(500 * time.Millisecond)
			}
			require.Less(t, time.Since(begin), cfg.BootTime*6/5)
			require.Equal(t, 300, group.Stats().Created)
		})
	}
}

func TestAThousandInstancesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := simulated.New(simulated.Config{BootTime: 30 * time.Second, BootJitter: time.Minute, StopTime: 20 * time.Second,
			Latency: 100 * time.Millisecond, CallFailureRate: 0.1, LostAnswerRate: 0.1, FailedBootRate: 0.05, Seed: 7})
		p := start(t, group, fleeting.WithMaxSize(1000))
		for p.Capacity().Running < 990 {
			c := p.Capacity()
			p.Request(1000 - c.Requested - c.Pending - c.Creating - c.Running)
			time.Sleep(5 * time.Second)
		}
		for len(p.Instances()) > 0 {
			for _, i := range p.Instances() {
				i.Delete()
			}
			time.Sleep(5 * time.Second)
		}
		time.Sleep(11 * time.Minute)
		for _, i := range p.Instances() {
			i.Delete()
		}
		time.Sleep(time.Minute)
		require.Empty(t, group.Instances())
		require.LessOrEqual(t, group.Stats().Peak, 1000)
	})
}

// TestNoCloudLeadsToTooManyInstances has users and clouds of all kinds at a provisioner, and compares
// what really exists with what was allowed.
func TestNoCloudLeadsToTooManyInstances(t *testing.T) {
	// The histories of one bubble end after a day of its time, which is about 1,500 of them.
	for day := range 5 {
		t.Run(fmt.Sprint("day ", day), func(t *testing.T) { synctest.Test(t, testClouds) })
	}
}

func testClouds(t *testing.T) {
	// A bubble of fake time has no deadline to ask for: rapid is to see no more than a testing.TB.
	rapid.Check(struct{ testing.TB }{t}, func(t *rapid.T) {
		limit := rapid.IntRange(1, 8).Draw(t, "limit")
		seconds := func(label string, most int) time.Duration {
			return time.Duration(rapid.IntRange(0, most).Draw(t, label)) * time.Second
		}
		rate := func(label string) float64 { return rapid.SampledFrom([]float64{0, 0, 0.1, 0.4}).Draw(t, label) }
		group := simulated.New(simulated.Config{
			Preexisting:     rapid.IntRange(0, limit).Draw(t, "preexisting"),
			Capabilities:    []provider.Capability{provider.CapabilitySuspendResume},
			BootTime:        seconds("boot", 60),
			StopTime:        seconds("stop", 30),
			ListDelay:       seconds("list delay", 8),
			Latency:         seconds("latency", 2),
			CallFailureRate: rate("call failures"),
			LostAnswerRate:  rate("lost answers"),
			FailedBootRate:  rate("failed boots"),
			Seed:            rapid.Uint64().Draw(t, "seed"),
		})
		// The group's own failures are drawn as well: Init may be one of them.
		p, err := fleeting.Init(context.Background(), nil, group, fleeting.WithMaxSize(limit))
		if err != nil {
			return
		}
		defer p.Shutdown(context.Background())
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			switch instances := p.Instances(); rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				p.Request(rapid.IntRange(0, limit).Draw(t, "request"))
			case 1:
				if len(instances) > 0 {
					rapid.SampledFrom(instances).Draw(t, "deleted").Delete()
				}
			case 2:
				if len(instances) > 0 {
					rapid.SampledFrom(instances).Draw(t, "suspended").Suspend()
				}
			case 3:
				if len(instances) > 0 {
					ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
					_ = rapid.SampledFrom(instances).Draw(t, "resumed").Resume(ctx)
					cancel()
				}
			case 4:
				if len(instances) > 0 && rapid.IntRange(0, 4).Draw(t, "vanishes") == 0 {
					group.Vanish(rapid.SampledFrom(instances).Draw(t, "vanished").ID())
				}
			}
			time.Sleep(seconds("pause", 20))
			if peak := group.Stats().Peak; peak > limit {
				t.Fatalf("%d instances existed, %d were allowed", peak, limit)
			}
		}
	})
}
