package taskscaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// TestRandomHistoriesOfTheWholeScaler is the small sister of the planner's test over random histories:
// the same kind of misfortune, but with the real provisioner, storage, goroutines and restarts. The
// group fails the test when an instance with a task is deleted or suspended, or the maximum is exceeded.
func TestRandomHistoriesOfTheWholeScaler(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		script := rapid.SliceOfN(rapid.Uint32(), 10, 60).Draw(rt, "script")
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) { playChaos(t, dir, script) })
		if t.Failed() {
			rt.FailNow()
		}
	})
}

type chaos struct {
	*rig
	dir     string
	options []Option
	uses    int
	tasks   int

	work sync.WaitGroup
	mu   sync.Mutex
	held []Acquisition
	// asleep are the keys of suspended tasks.
	asleep []string
	used   map[string]int
}

func playChaos(t *testing.T, dir string, script []uint32) {
	g := newSuspendableGroup(t, 6)
	g.bootTime = time.Second
	c := &chaos{dir: dir, uses: 4, used: map[string]int{}}
	c.options = []Option{
		WithCapacityPerInstance(2), WithMaxUseCount(c.uses), WithUpdateInterval(2 * time.Second),
		WithInstanceUpFunc(func(ts Taskscaler, instance UpFuncInstance) error {
			time.Sleep(time.Second)
			for _, key := range instance.Acquisitions {
				ts.Release(key)
			}
			if len(instance.Acquisitions) > 0 || instance.Cause == "preexisted" && !instance.Restored {
				return errTest
			}
			return nil
		}),
	}
	c.rig = start(t, g, append(c.options, WithStorage(newStorage(t, dir)))...)
	for _, number := range script {
		c.step(number)
		c.wait(time.Duration(number%7) * 300 * time.Millisecond)
	}
	c.end()
}

func (c *chaos) step(number uint32) {
	what, which := number*2654435761>>28, int(number>>4)
	c.mu.Lock()
	held, asleep := slices.Clone(c.held), slices.Clone(c.asleep)
	c.mu.Unlock()
	ids := c.group.ids()
	switch {
	case what < 5:
		c.tasks++
		key := fmt.Sprint("task-", c.tasks)
		if which%2 == 0 && c.Reserve(key) != nil {
			return
		}
		c.work.Go(func() { c.take(key, time.Duration(1+which%60)*time.Second) })
	case what < 8 && len(held) > 0:
		c.drop(held[which%len(held)])
	case what == 8 && len(held) > 0:
		a := held[which%len(held)]
		if !c.forget(a) {
			return
		}
		if c.Suspend(a.Key()) == nil {
			c.mu.Lock()
			c.asleep = append(c.asleep, a.Key())
			c.mu.Unlock()
			return
		}
		c.Release(a.Key())
	case what == 9 && len(asleep) > 0:
		key := asleep[which%len(asleep)]
		c.work.Go(func() { c.wake(key, time.Duration(which%20)*time.Second) })
	case what == 10 && len(ids) > 0:
		id := ids[which%len(ids)]
		switch which % 5 {
		case 0:
			c.group.vanish(id)
		case 1:
			c.ReportLost(id, errTest)
		case 2:
			c.group.with(func() { c.group.sick[id] = !c.group.sick[id] })
		case 3:
			c.group.with(func() { delete(c.group.occupied, id); c.group.find(id).state = provider.StateDeleting })
		case 4:
			c.group.with(func() { delete(c.group.occupied, id); c.group.find(id).state = provider.StateSuspended })
		}
	case what == 11:
		c.group.with(func() { c.group.refuse = which%3 == 0; c.group.deaf = which%5 == 0; c.group.mute = which%7 == 0 })
	case what == 12:
		c.schedule(Schedule{IdleCount: which % 5, IdleTime: time.Duration(which%4) * 10 * time.Second, PreemptiveMode: which%2 == 0})
	case what == 13:
		c.wait(time.Duration(which%120) * time.Second)
	case what == 14 && which%4 == 0:
		c.restart(which%8 == 0)
	}
}

// take acquires a slot and checks that nobody else has it.
func (c *chaos) take(key string, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := c.Acquire(ctx, key)
	if err != nil {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrShutdown) {
			c.t.Errorf("acquiring: %v", err)
		}
		return
	}
	c.hold(a)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used[a.InstanceID()]++; c.used[a.InstanceID()] > c.uses {
		c.t.Errorf("instance %s was used %d times", a.InstanceID(), c.used[a.InstanceID()])
	}
}

func (c *chaos) hold(a Acquisition) {
	ctx, cancel := a.WithContext(context.Background())
	defer cancel()
	if ctx.Err() == nil {
		c.group.occupy(a.InstanceID(), 1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, other := range c.held {
		if other.InstanceID() == a.InstanceID() && other.Slot() == a.Slot() {
			c.t.Errorf("slot %d of %s has two owners: %s and %s", a.Slot(), a.InstanceID(), other.Key(), a.Key())
		}
	}
	c.held = append(c.held, a)
}

// forget takes a task out of the list and off its instance; false if somebody else was faster.
func (c *chaos) forget(a Acquisition) bool {
	c.mu.Lock()
	i := slices.Index(c.held, a)
	if i >= 0 {
		c.held = slices.Delete(c.held, i, i+1)
	}
	c.mu.Unlock()
	if i >= 0 {
		c.group.with(func() {
			if c.group.occupied[a.InstanceID()] > 0 {
				c.group.occupied[a.InstanceID()]--
			}
		})
	}
	return i >= 0
}

func (c *chaos) drop(a Acquisition) {
	if c.forget(a) {
		c.Release(a.Key())
	}
}

func (c *chaos) wake(key string, patience time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	a, err := c.Resume(ctx, key)
	c.mu.Lock()
	if err == nil {
		c.asleep = slices.DeleteFunc(c.asleep, func(other string) bool { return other == key })
	}
	c.mu.Unlock()
	if err == nil {
		c.hold(a)
	}
}

// restart begins anew, with the state of the last process or without it. Its tasks are gone.
func (c *chaos) restart(memory bool) {
	if memory {
		c.crash()
	} else {
		c.stopNow()
		clear(c.used)
		c.dir = c.t.TempDir()
	}
	c.work.Wait()
	c.mu.Lock()
	c.held = nil
	if !memory {
		c.asleep = nil
	}
	c.mu.Unlock()
	c.group.with(func() { clear(c.group.occupied) })
	c.rig = start(c.t, c.group, append(c.options, WithStorage(newStorage(c.t, c.dir)))...)
}

// end sends everybody home and checks that nothing remains.
func (c *chaos) end() {
	c.group.with(func() { c.group.refuse, c.group.deaf, c.group.mute = false, false, false; clear(c.group.sick) })
	c.schedule(Schedule{})
	c.work.Wait()
	c.wait(time.Minute) // a group that did not answer may only now be seen
	for _, a := range slices.Clone(c.held) {
		c.drop(a)
	}
	for _, key := range c.asleep {
		c.Release(key)
	}
	c.ask(func(time.Time) {
		for i := range c.tasks {
			c.state.Unreserve(fmt.Sprint("task-", i+1))
		}
	})
	c.wait(time.Hour)
	for _, id := range c.group.ids() {
		state := c.group.stateOf(id)
		require.Equal(c.t, provider.StateSuspended, state, "only an instance that was suspended before a restart without state may remain")
	}
	c.requireEmpty(len(c.group.ids()))
}
