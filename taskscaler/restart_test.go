package taskscaler

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler/storage"
)

// ups records the instances that are prepared and treats them as a runner does: tasks of the last
// process are released and their instances removed, and so are instances of which nothing is known.
type ups struct {
	mu   sync.Mutex
	list []UpFuncInstance
}

func (u *ups) up(ts Taskscaler, instance UpFuncInstance) error {
	u.mu.Lock()
	u.list = append(u.list, instance)
	u.mu.Unlock()
	for _, key := range instance.Acquisitions {
		ts.Release(key)
	}
	switch {
	case len(instance.Acquisitions) > 0:
		return errors.New("pre-existing instance has acquisition so removing for safety")
	case instance.Cause == fleeting.CausePreexisted && !instance.Restored:
		return errors.New("no data on pre-existing instance so removing for safety")
	}
	return nil
}

func (u *ups) of(id string) UpFuncInstance {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, instance := range slices.Backward(u.list) {
		if instance.ID == id {
			return instance
		}
	}
	return UpFuncInstance{}
}

func newStorage(t *testing.T, dir string) storage.Storage {
	s, err := storage.NewFileStorage(dir)
	require.NoError(t, err)
	return s
}

// crash ends a scaler as a killed process would: nothing more is written.
func (r *rig) crash() {
	r.recorder.mu.Lock()
	r.recorder.storage = lostStorage{}
	r.recorder.mu.Unlock()
	r.stopNow()
	r.group.with(func() { clear(r.group.occupied) })
}

// lostStorage forgets everything.
type lostStorage struct{}

func (lostStorage) List() ([]storage.State, error) { return nil, nil }
func (lostStorage) Put(storage.State) error        { return nil }
func (lostStorage) Delete(string) error            { return nil }

func TestARunnersFirstMinutes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		u := &ups{}
		r := start(t, g, WithMaxInstances(5), WithCapacityPerInstance(0), WithMaxUseCount(0), WithFailureThreshold(0), WithScaleThrottle(0, 0),
			WithUpdateInterval(100*time.Millisecond), WithReservationThrottling(), WithInstanceUpFunc(u.up), WithStorage(newStorage(t, t.TempDir())))
		r.schedule(Schedule{IdleCount: 1, IdleTime: 0, PreemptiveMode: true})
		require.ErrorIs(t, r.Reserve("a"), ErrNoCapacity)
		r.wait(10 * time.Second)
		require.Equal(t, []string{"i-1"}, g.ids())
		require.NoError(t, r.Reserve("a"))
		r.Unreserve("a")
		r.wait(time.Hour)
		require.Zero(t, g.count("Decrease"))
		require.Equal(t, 1, g.total())
	})
}

func TestWithoutStateInstancesOfTheLastProcessAreRemoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		u := &ups{}
		options := []Option{WithInstanceUpFunc(u.up), WithUpdateInterval(100 * time.Millisecond)}
		r := start(t, g, options...)
		r.schedule(Schedule{IdleCount: 3, IdleTime: time.Hour})
		r.wait(5 * time.Second)
		r.stopNow()
		require.Len(t, g.ids(), 3, "shutdown deletes nothing by default")

		r = start(t, g, options...)
		r.schedule(Schedule{IdleCount: 1, IdleTime: time.Hour})
		r.wait(5 * time.Second)
		require.Equal(t, []string{"i-1", "i-2", "i-3"}, slices.Sorted(slices.Values(g.deletions())))
		require.Equal(t, []string{"i-4"}, g.ids())
		require.Equal(t, fleeting.CausePreexisted, u.of("i-2").Cause)
		require.Empty(t, r.journal.lines("creation of instances held back"), "this says nothing about the image")
	})
}

func TestStateSurvivesARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		u := &ups{}
		dir := t.TempDir()
		run := func() *rig {
			r := start(t, g, WithInstanceUpFunc(u.up), WithStorage(newStorage(t, dir)), WithMaxUseCount(3), WithCapacityPerInstance(2), WithUpdateInterval(time.Second))
			r.schedule(Schedule{IdleTime: time.Hour})
			return r
		}
		r := run()
		idle := r.acquire("idle", time.Minute)
		r.acquire("neighbour", time.Minute)
		working := r.acquire("working", time.Minute)
		require.NotEqual(t, idle.InstanceID(), working.InstanceID())
		r.release(idle)
		r.release(r.Get("neighbour"))
		r.wait(time.Second)
		r.crash()

		r = run()
		r.wait(5 * time.Second)
		restored := u.of("i-1")
		require.True(t, restored.Restored)
		require.Equal(t, fleeting.CausePreexisted, restored.Cause)
		require.Equal(t, 2, restored.UsedCount)
		require.Empty(t, restored.Acquisitions)
		require.Equal(t, []string{"working"}, u.of("i-2").Acquisitions)
		require.Equal(t, []string{"i-2"}, g.deletions(), "its task died with the last process")

		require.Equal(t, "i-1", r.acquire("third", time.Second).InstanceID())
		require.Equal(t, "i-3", r.acquire("fourth", time.Minute).InstanceID(), "i-1 had its three uses")
		r.release(r.Get("third"))
		r.wait(time.Second)
		require.Equal(t, []string{"i-2", "i-1"}, g.deletions())
		r.wait(time.Minute)
		states, err := newStorage(t, dir).List()
		require.NoError(t, err)
		require.Len(t, states, 1)
		require.Equal(t, "i-3", states[0].ID)
		require.Equal(t, []storage.Acquisition{{Key: "fourth", Slot: 0}}, states[0].Acquisitions)
		require.Equal(t, "root", states[0].ConnectInfo.Username)
	})
}

func TestTheUseIsStoredBeforeTheTaskGetsItsSlot(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		dir := t.TempDir()
		r := start(t, g, WithStorage(newStorage(t, dir)))
		for _, key := range []string{"a", "b", "c"} {
			a := r.acquire(key, time.Minute)
			states, err := newStorage(t, dir).List()
			require.NoError(t, err)
			i := slices.IndexFunc(states, func(s storage.State) bool { return s.ID == a.InstanceID() })
			require.GreaterOrEqual(t, i, 0)
			require.Equal(t, []storage.Acquisition{{Key: key}}, states[i].Acquisitions)
			require.Equal(t, 1, states[i].UsedCount)
		}
	})
}

func TestRestoredTasksThatNobodyReleasesKeepTheirSlots(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		dir := t.TempDir()
		options := func() []Option { return []Option{WithStorage(newStorage(t, dir)), WithCapacityPerInstance(2)} }
		r := start(t, g, options()...)
		r.acquire("a", time.Minute)
		r.acquire("b", time.Minute)
		r.release(r.Get("a"))
		r.wait(time.Second)
		r.crash()

		r = start(t, g, options()...)
		r.wait(time.Second)
		b := r.Get("b")
		require.NotNil(t, b)
		require.Equal(t, 1, b.Slot())
		require.Equal(t, "i-1", b.InstanceID())
		ctx, cancel := b.WithContext(context.Background())
		defer cancel()
		require.NoError(t, ctx.Err())
		require.Equal(t, 0, r.acquire("c", time.Second).Slot())
	})
}

func TestSuspendedTasksSurviveARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 3)
		u := &ups{}
		dir := t.TempDir()
		run := func() *rig {
			r := start(t, g, WithInstanceUpFunc(u.up), WithStorage(newStorage(t, dir)), WithCapacityPerInstance(2), WithUpdateInterval(time.Second), WithDeleteInstancesOnShutdown())
			r.schedule(Schedule{IdleTime: time.Minute})
			return r
		}
		r := run()
		a, b := r.acquire("a", time.Minute), r.acquire("b", time.Minute)
		r.suspendTask(b)
		r.release(a)
		r.wait(time.Minute)
		require.Equal(t, provider.StateSuspended, g.stateOf("i-1"))
		r.stopNow()
		require.Equal(t, provider.StateSuspended, g.stateOf("i-1"), "shutdown does not delete it")

		r = run()
		r.wait(time.Hour)
		require.Equal(t, provider.StateSuspended, g.stateOf("i-1"))
		require.Len(t, u.list, 1, "it is not prepared again")
		restored := r.Get("b")
		require.NotNil(t, restored)
		_, err := restored.InstanceConnectInfo(context.Background())
		require.ErrorIs(t, err, ErrAcquisitionSuspended)
		again, err := r.Resume(context.Background(), "b")
		require.NoError(t, err)
		require.Equal(t, 1, again.Slot())
		require.Equal(t, "i-1", again.InstanceID())
		g.occupy("i-1", 1)
		r.wait(time.Minute)
		require.Equal(t, provider.StateRunning, g.stateOf("i-1"))
		r.release(again)
		r.wait(5 * time.Minute)
		require.Empty(t, g.ids())
	})
}

func TestSuspendedInstancesWithoutStateAreLeftAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newSuspendableGroup(t, 2)
		g.add("unknown", provider.StateSuspended)
		u := &ups{}
		r := start(t, g, WithInstanceUpFunc(u.up))
		r.schedule(Schedule{IdleCount: 5})
		r.wait(time.Hour)
		require.Empty(t, g.deletions())
		require.Equal(t, []string{"unknown", "i-1"}, g.ids(), "and counts against the maximum")
	})
}

func TestStateOfInstancesThatAreGoneIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		dir := t.TempDir()
		r := start(t, g, WithStorage(newStorage(t, dir)))
		r.acquire("a", time.Minute)
		r.crash()
		g.vanish("i-1")

		r = start(t, g, WithStorage(newStorage(t, dir)))
		r.wait(time.Minute)
		require.Nil(t, r.Get("a"))
		g.with(func() { g.created = 0 }) // the id is used again
		b := r.acquire("b", time.Minute)
		require.Equal(t, "i-1", b.InstanceID())
		require.Equal(t, 0, b.Slot())
		r.stopNow()
		states, err := newStorage(t, dir).List()
		require.NoError(t, err)
		require.Len(t, states, 1)
		require.Equal(t, []storage.Acquisition{{Key: "b"}}, states[0].Acquisitions)
	})
}

func TestACorruptStateIsNamedAndItsInstanceIsUnknown(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		u := &ups{}
		dir := t.TempDir()
		options := func() []Option { return []Option{WithStorage(newStorage(t, dir)), WithInstanceUpFunc(u.up)} }
		r := start(t, g, options()...)
		r.schedule(Schedule{IdleCount: 2, IdleTime: time.Hour})
		r.wait(10 * time.Second)
		r.stopNow()
		files, err := filepath.Glob(filepath.Join(dir, "i-1-*.json"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		require.NoError(t, os.Truncate(files[0], 20))

		r = start(t, g, options()...)
		r.schedule(Schedule{IdleCount: 2, IdleTime: time.Hour})
		r.wait(10 * time.Second)
		lines := r.journal.lines("stored state of some instances is lost")
		require.Len(t, lines, 1)
		require.Contains(t, lines[0], files[0])
		require.Equal(t, []string{"i-1"}, g.deletions())
		require.Equal(t, []string{"i-2", "i-3"}, g.ids())
	})
}

func TestAMarkedInstanceIsRemovedAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		dir := t.TempDir()
		r := start(t, g, WithStorage(newStorage(t, dir)))
		r.acquire("a", time.Minute)
		r.ReportLost("i-1", errTest)
		r.wait(time.Second)
		r.crash()

		r = start(t, g, WithStorage(newStorage(t, dir)))
		r.wait(time.Second)
		r.Release("a")
		r.wait(time.Second)
		require.Equal(t, []string{"i-1"}, g.deletions())
		require.Equal(t, []string{
			"info instance marked for removal instance=i-1 reason=instance was reported lost: it failed (before restart)",
		}, r.journal.lines("instance marked for removal"))
	})
}

// brokenStorage refuses to store while it is told to.
type brokenStorage struct {
	storage.Storage
	mu     sync.Mutex
	broken bool
}

func (s *brokenStorage) Put(state storage.State) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errTest
	}
	return s.Storage.Put(state)
}

func TestAStorageThatFailsIsTriedAgainAndHoldsNobodyUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		s := &brokenStorage{Storage: newStorage(t, t.TempDir()), broken: true}
		r := start(t, g, WithStorage(s))
		r.acquire("a", time.Minute)
		r.wait(time.Minute)
		require.Contains(t, strings.Join(r.journal.lines("recording instance state failed"), "\n"), "err=it failed instance=i-1")
		s.mu.Lock()
		s.broken = false
		s.mu.Unlock()
		r.wait(15 * time.Second)
		states, err := s.List()
		require.NoError(t, err)
		require.Len(t, states, 1)
		require.Equal(t, 1, states[0].UsedCount)
	})
}

func TestAnInstanceStoredBeforeTheClockWasPutBackIsRemovedAfterItsIdleTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		s := newStorage(t, t.TempDir())
		require.NoError(t, s.Put(storage.State{ID: "i-old", IdleSince: time.Now().Add(365 * 24 * time.Hour)}))
		g.with(func() { g.add("i-old", provider.StateRunning) })
		r := start(t, g, WithStorage(s))
		r.schedule(Schedule{IdleTime: time.Hour})
		r.wait(time.Hour - time.Minute)
		require.Empty(t, g.deletions())
		r.wait(2 * time.Minute)
		require.Equal(t, []string{"i-old"}, g.deletions())
	})
}

func TestAnInstanceWhoseUseCouldNotBeStoredIsNotTrustedAfterARestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		u := &ups{}
		dir := t.TempDir()
		s := &brokenStorage{Storage: newStorage(t, dir)}
		r := start(t, g, WithInstanceUpFunc(u.up), WithStorage(s), WithMaxUseCount(1))
		r.schedule(Schedule{IdleCount: 1, IdleTime: time.Hour})
		r.wait(5 * time.Second)
		s.mu.Lock()
		s.broken = true
		s.mu.Unlock()
		require.Equal(t, "i-1", r.acquire("a", time.Minute).InstanceID())
		r.crash()

		r = start(t, g, WithInstanceUpFunc(u.up), WithStorage(newStorage(t, dir)), WithMaxUseCount(1))
		r.schedule(Schedule{IdleTime: time.Hour})
		r.wait(5 * time.Second)
		require.False(t, u.of("i-1").Restored)
		require.Contains(t, g.deletions(), "i-1")
	})
}

// interruptingStorage has something happen while a state is being stored.
type interruptingStorage struct {
	storage.Storage
	during func(state storage.State) error
}

func (s *interruptingStorage) Put(state storage.State) error {
	if err := s.during(state); err != nil {
		return err
	}
	return s.Storage.Put(state)
}

func TestAStateThatComesWhileAnOlderOneFailsIsTheOneThatIsKept(t *testing.T) {
	for name, newerFails := range map[string]bool{"and is stored": false, "and fails once too": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := &interruptingStorage{Storage: newStorage(t, t.TempDir())}
				r := newRecorder(s, hclog.NewNullLogger())
				failures := 0
				s.during = func(state storage.State) error {
					switch {
					case state.UsedCount == 1 && failures == 0:
						failures++
						r.put(storage.State{ID: "i-1", UsedCount: 2})
						return errTest
					case state.UsedCount == 2 && newerFails && failures == 1:
						failures++
						return errTest
					}
					return nil
				}
				<-r.put(storage.State{ID: "i-1", UsedCount: 1})
				time.Sleep(3 * recordRetryDelay)
				r.close(t.Context())
				states, err := s.List()
				require.NoError(t, err)
				require.Len(t, states, 1)
				require.Equal(t, 2, states[0].UsedCount)
			})
		})
	}
}

func TestConnectInfoOfARestoredInstanceIsCompletedFromTheStorage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		dir := t.TempDir()
		r := start(t, g, WithStorage(newStorage(t, dir)))
		r.acquire("a", time.Minute)
		r.crash()

		g.with(func() { g.mute = true })
		r = start(t, g, WithStorage(newStorage(t, dir)))
		r.wait(time.Second)
		info, err := r.Get("a").InstanceConnectInfo(context.Background())
		require.NoError(t, err)
		require.Equal(t, "192.0.2.1", info.InternalAddr)
		require.Equal(t, []byte("secret"), info.Key)
	})
}

func TestNoSecretIsLogged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 5)
		r := start(t, g, WithStorage(newStorage(t, t.TempDir())))
		r.release(r.acquire("a", time.Minute))
		r.wait(time.Hour)
		require.NotContains(t, strings.Join(r.journal.lines(), "\n"), "secret")
	})
}
