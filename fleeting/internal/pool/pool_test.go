package pool

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

const (
	creating   = provider.StateCreating
	running    = provider.StateRunning
	deleting   = provider.StateDeleting
	deleted    = provider.StateDeleted
	timeout    = provider.StateTimeout
	suspending = provider.StateSuspending
	suspended  = provider.StateSuspended
	resuming   = provider.StateResuming
)

// bench is a pool with a clock.
type bench struct {
	*testing.T
	*Pool
	now time.Time
}

func newBench(t *testing.T, preexisting ...Report) *bench {
	b := &bench{
		T:    t,
		Pool: New(Config{MaxSize: 10, DeletionRetry: time.Minute, RetryStep: 2 * time.Second}),
		now:  time.Unix(1_700_000_000, 0),
	}
	b.see(preexisting...)
	return b
}

func (b *bench) see(reports ...Report) Observation {
	b.now = b.now.Add(2 * time.Second)
	return b.Observe(b.now, reports)
}

func (b *bench) wait(d time.Duration) { b.now = b.now.Add(d) }

// decreased returns the batches of planned deletions as text.
func (b *bench) decreased() []string {
	var batches []string
	for _, batch := range b.Plan(b.now).Decrease {
		batches = append(batches, fmt.Sprint(batch))
	}
	return batches
}

func ids(instances []*Instance) []string {
	var ids []string
	for _, in := range instances {
		ids = append(ids, in.ID)
	}
	return ids
}

func TestCauseOfAnInstance(t *testing.T) {
	b := newBench(t, Report{"a", running})
	require.Equal(t, Preexisted, b.Get("a").Cause)

	b.Request(b.now, 2)
	asked := b.now
	b.wait(time.Second)
	require.Equal(t, 2, b.Plan(b.now).Increase)
	b.Increased(b.now, 2, 1, false)
	require.Zero(t, b.Counts().Requested, "what was refused is forgotten")
	require.Equal(t, 1, b.Counts().Pending)

	o := b.see(Report{"a", running}, Report{"b", creating}, Report{"c", running})
	require.Equal(t, []string{"b", "c"}, ids(o.Discovered))
	require.Equal(t, Requested, b.Get("b").Cause)
	require.Equal(t, asked, b.Get("b").RequestedAt)
	require.True(t, b.Get("b").ProvisionedAt.IsZero())
	require.Equal(t, Unexpected, b.Get("c").Cause)
	require.Equal(t, b.now, b.Get("c").ProvisionedAt)
}

func TestFirstSuccessfulUpdateFindsThePreexisting(t *testing.T) {
	p := New(Config{MaxSize: 3})
	o := p.Observe(time.Now(), []Report{{"a", running}, {"gone", deleted}, {"lost", timeout}})
	require.Equal(t, []string{"a"}, ids(o.Discovered))
	require.Equal(t, Preexisted, o.Discovered[0].Cause)
}

func TestRequestsWaitForRoom(t *testing.T) {
	reports := make([]Report, 0, 10)
	for i, s := range []provider.State{running, creating, deleting, suspending, suspended, resuming, "odd", running} {
		reports = append(reports, Report{fmt.Sprint(i), s})
	}
	b := newBench(t, reports...)
	b.Request(b.now, 5)
	plan := b.Plan(b.now)
	require.Equal(t, 2, plan.Increase, "every state takes a place")
	require.Equal(t, 3, plan.Held)
	require.Equal(t, "5 requested, 8 of 10 places taken", plan.IncreaseReason)
	b.Increased(b.now, 2, 2, false)
	require.Zero(t, b.Plan(b.now).Increase, "pending ones take a place")
	b.see(reports[:6]...)
	b.Request(b.now, 100)
	require.Equal(t, 10, b.Counts().Requested, "more than the maximum is never outstanding")
}

func TestHeldRequestsDoNotHurry(t *testing.T) {
	p := New(Config{MaxSize: 1})
	p.Observe(time.Now(), []Report{{"a", running}})
	p.Request(time.Now(), 1)
	require.False(t, p.Expecting())
	p.Delete(time.Now(), "a")
	require.True(t, p.Expecting())
}

func TestLostAnswerKeepsPlacesFree(t *testing.T) {
	b := newBench(t)
	b.Request(b.now, 10)
	b.Increased(b.now, 10, 0, true)
	require.Equal(t, Counts{Max: 10, Unanswered: 10}, b.Counts())
	b.Request(b.now, 10)
	require.Zero(t, b.Plan(b.now).Increase)
	o := b.see(Report{"a", creating})
	require.Equal(t, Requested, o.Discovered[0].Cause)
	b.wait(time.Minute)
	for range 4 {
		b.see(Report{"a", creating})
	}
	require.Equal(t, 9, b.Plan(b.now).Increase, "long enough, and often enough looked")
}

func TestPendingThatNeverAppearsExpires(t *testing.T) {
	b := newBench(t)
	b.Request(b.now, 1)
	b.Increased(b.now, 1, 1, false)
	b.wait(PendingLimit - 3*time.Second)
	require.Zero(t, b.see().Expired)
	require.True(t, b.Expecting())
	require.Equal(t, 1, b.see().Expired)
	require.False(t, b.Expecting())
	require.Equal(t, Unexpected, b.see(Report{"late", running}).Discovered[0].Cause)
}

func TestMissedInFiveUpdatesIsATimeout(t *testing.T) {
	b := newBench(t, Report{"a", running}, Report{"b", running})
	for range MissedUpdates - 1 {
		o := b.see(Report{"b", running})
		require.Equal(t, 1, o.Missed)
		require.Empty(t, o.Gone)
	}
	b.see(Report{"a", running}, Report{"b", running})
	for range MissedUpdates - 1 {
		require.Empty(t, b.see(Report{"b", running}).Gone, "being mentioned starts the count anew")
	}
	o := b.see(Report{"b", running})
	require.Equal(t, []string{"a"}, ids(o.Gone))
	require.Equal(t, timeout, o.Gone[0].State)
	require.Equal(t, b.now, o.Gone[0].DeletedAt)
	require.Nil(t, b.Get("a"))
	require.Empty(t, b.decreased())
}

func TestDeletionTakesItsCourse(t *testing.T) {
	b := newBench(t, Report{"a", running}, Report{"b", running})
	b.Delete(b.now, "a")
	b.Delete(b.now, "nobody")
	asked := b.now
	require.Equal(t, []string{"[{a deletion was asked for}]"}, b.decreased())
	require.Equal(t, []string{"a"}, ids(b.Decreased(b.now, []string{"a"}, []string{"a"})))
	require.Equal(t, deleting, b.Get("a").State)
	require.Empty(t, b.decreased())

	o := b.see(Report{"a", running}, Report{"b", running})
	require.Empty(t, o.Changed, "a late report does not undo it")
	o = b.see(Report{"a", deleting}, Report{"b", running})
	require.Empty(t, o.Changed)
	o = b.see(Report{"b", running})
	require.Equal(t, deleted, o.Gone[0].State)
	require.Equal(t, asked, o.Gone[0].DeletedAt)
}

func TestDeletionWithoutEffectIsRepeated(t *testing.T) {
	b := newBench(t, Report{"a", running})
	b.Delete(b.now, "a")
	b.Decreased(b.now, []string{"a"}, []string{"a"})
	b.wait(57 * time.Second)
	b.see(Report{"a", running})
	require.Empty(t, b.decreased())
	b.see(Report{"a", running})
	require.Equal(t, []string{"[{a the deletion had no effect}]"}, b.decreased())
	b.see(Report{"a", deleting})
	require.Empty(t, b.decreased(), "the group is at it")
}

func TestDeletionUnderWayIsNotAskedFor(t *testing.T) {
	b := newBench(t, Report{"a", deleting})
	b.Delete(b.now, "a")
	b.wait(time.Hour)
	require.Empty(t, b.decreased())
	b.see(Report{"a", running})
	require.NotEmpty(t, b.decreased())
}

func TestRefusedDeletionBacksOffAndIsTriedAlone(t *testing.T) {
	b := newBench(t, Report{"a", running}, Report{"b", running}, Report{"c", running})
	b.Delete(b.now, "a")
	b.Delete(b.now, "b")
	var waits []time.Duration
	for range 8 {
		asked := b.now
		b.Decreased(b.now, []string{"a", "b"}, nil)
		for len(b.decreased()) == 0 {
			b.wait(time.Second)
		}
		waits = append(waits, b.now.Sub(asked))
	}
	second := time.Second
	require.Equal(t, []time.Duration{2 * second, 4 * second, 8 * second, 16 * second, 32 * second, 60 * second, 60 * second, 60 * second}, waits)

	b.Delete(b.now, "c")
	require.Equal(t, []string{"[{c deletion was asked for}]", "[{a the deletion was refused before}]"}, b.decreased())
	b.Decreased(b.now, []string{"a"}, nil)
	require.Equal(t, []string{"[{c deletion was asked for}]", "[{b the deletion was refused before}]"}, b.decreased())
}

func TestAcceptedDeletionIsForgivenItsRefusals(t *testing.T) {
	b := newBench(t, Report{"a", running}, Report{"b", running})
	b.Delete(b.now, "a")
	b.Delete(b.now, "b")
	b.Decreased(b.now, []string{"a", "b"}, nil)
	b.Decreased(b.now, []string{"a", "b"}, nil)
	b.Decreased(b.now, []string{"a", "b"}, []string{"a", "b"})
	b.wait(time.Minute)
	require.Equal(t, []string{"[{a the deletion had no effect} {b the deletion had no effect}]"}, b.decreased())
}

func TestDeletingEverythingSparesTheSuspended(t *testing.T) {
	b := newBench(t, Report{"a", running}, Report{"b", suspended}, Report{"c", suspending}, Report{"d", creating},
		Report{"e", deleting}, Report{"f", resuming}, Report{"g", suspended})
	b.Delete(b.now, "g")
	b.Request(b.now, 3)
	b.DeleteAll(b.now)
	plan := b.Plan(b.now)
	require.Zero(t, plan.Increase)
	require.Equal(t, []string{"[{a shutdown} {d shutdown} {f shutdown} {g shutdown}]"}, b.decreased())
	b.Decreased(b.now, []string{"a", "d", "f", "g"}, []string{"a"})
	b.see(Report{"a", running}, Report{"d", creating}, Report{"f", resuming}, Report{"g", suspended})
	b.DeleteAll(b.now)
	require.ElementsMatch(t, []string{
		"[{a the deletion had no effect}]", "[{d the deletion was refused before}]",
		"[{f the deletion was refused before}]", "[{g the deletion was refused before}]",
	}, b.decreased(), "the next attempt does not wait")
}

func TestSuspensionAndResumption(t *testing.T) {
	b := newBench(t, Report{"a", running}, Report{"b", creating})
	b.Suspend("a")
	b.Suspend("b")
	b.Suspend("nobody")
	require.Equal(t, []Decision{{"a", "suspension was asked for"}}, b.Plan(b.now).Suspend)
	accepted, refused := b.Suspended(b.now, []string{"a"}, []string{"a"})
	require.Equal(t, []string{"a"}, ids(accepted))
	require.Empty(t, refused)
	require.Empty(t, b.see(Report{"a", running}, Report{"b", running}).Changed[1:], "a late report does not undo it")
	require.Equal(t, suspending, b.Get("a").State)

	b.Resume(b.now, "a")
	require.True(t, b.Plan(b.now).Empty(), "a resumption waits for the suspension to end")
	require.True(t, b.Expecting())
	b.see(Report{"a", suspended}, Report{"b", running})
	require.Equal(t, []Decision{{"a", "resumption was asked for"}}, b.Plan(b.now).Resume)
	b.Resumed(b.now, []string{"a"}, []string{"a"})
	require.Equal(t, resuming, b.Get("a").State)
	b.see(Report{"a", suspended}, Report{"b", running})
	require.Equal(t, resuming, b.Get("a").State)
	b.see(Report{"a", running}, Report{"b", running})
	require.Equal(t, running, b.Get("a").State)
	require.False(t, b.Get("a").ResumeWanted())
	require.False(t, b.Expecting())
}

func TestFailedSuspensionIsNoticed(t *testing.T) {
	tests := map[string][]provider.State{
		"after it was reported":     {suspending, running},
		"never reported, but often": {running, running, running, running, running, running},
	}
	for name, states := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Report{"a", running})
			b.Suspend("a")
			b.Suspended(b.now, []string{"a"}, []string{"a"})
			for i, s := range states {
				require.Equal(t, suspending, b.Get("a").State, "update %d", i)
				b.see(Report{"a", s})
			}
			require.Equal(t, running, b.Get("a").State)
		})
	}
}

func TestFailedResumptionIsNotRepeated(t *testing.T) {
	b := newBench(t, Report{"a", suspended})
	b.Resume(b.now, "a")
	b.Resumed(b.now, []string{"a"}, []string{"a"})
	b.see(Report{"a", resuming})
	b.see(Report{"a", suspended})
	require.Equal(t, suspended, b.Get("a").State)
	require.False(t, b.Get("a").ResumeWanted())
	require.True(t, b.Plan(b.now).Empty())

	b.Resume(b.now, "a")
	_, refused := b.Resumed(b.now, []string{"a"}, nil)
	require.Equal(t, []string{"a"}, ids(refused))
	require.True(t, b.Plan(b.now).Empty())
}

func TestResumptionCallsOffASuspensionThatDidNotBegin(t *testing.T) {
	b := newBench(t, Report{"a", running})
	b.Suspend("a")
	b.Resume(b.now, "a")
	require.True(t, b.Plan(b.now).Empty())
	require.False(t, b.Expecting())
}

func TestResumptionDoesNotWaitForEver(t *testing.T) {
	b := newBench(t, Report{"a", suspending})
	b.Resume(b.now, "a")
	b.wait(suspendWaitLimit - time.Second)
	require.Empty(t, b.Overdue(b.now))
	b.Resume(b.now, "a")
	b.wait(time.Second)
	require.Equal(t, []string{"a"}, ids(b.Overdue(b.now)))
	require.Empty(t, b.Overdue(b.now))
}

func TestDeletionEndsOtherWishes(t *testing.T) {
	b := newBench(t, Report{"a", running}, Report{"b", suspended})
	b.Suspend("a")
	b.Resume(b.now, "b")
	b.Delete(b.now, "a")
	b.Delete(b.now, "b")
	b.Suspend("a")
	b.Resume(b.now, "b")
	plan := b.Plan(b.now)
	require.Empty(t, plan.Suspend)
	require.Empty(t, plan.Resume)
	require.Len(t, plan.Decrease[0], 2, "a suspended instance is deleted as it is")
}

func TestOddReportsAreToldOnceAndChangeNothing(t *testing.T) {
	b := newBench(t, Report{"a", running})
	o := b.see(Report{"a", "odd"}, Report{"b", "odd"}, Report{"", running})
	require.ElementsMatch(t, []Report{{"", running}, {"a", "odd"}, {"b", "odd"}}, o.Invalid)
	require.Equal(t, running, b.Get("a").State)
	require.Equal(t, creating, b.Get("b").State)
	require.Empty(t, b.see(Report{"a", "odd"}, Report{"b", "odd"}).Invalid)
}

func TestAnIDMayComeBack(t *testing.T) {
	b := newBench(t, Report{"a", running})
	before := b.Get("a")
	b.see(Report{"a", deleted})
	require.Nil(t, b.Get("a"))
	b.see(Report{"a", deleted})
	require.Nil(t, b.Get("a"))
	b.see(Report{"a", running})
	require.NotSame(t, before, b.Get("a"))
	require.Equal(t, Unexpected, b.Get("a").Cause)
}

func BenchmarkCycleOfAThousandInstances(b *testing.B) {
	p := New(Config{MaxSize: 1000, DeletionRetry: time.Minute, RetryStep: time.Second})
	reports := make([]Report, 1000)
	for i := range reports {
		reports[i] = Report{fmt.Sprintf("instance-%d", i), running}
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		p.Observe(now, reports)
		p.Plan(now)
	}
}
