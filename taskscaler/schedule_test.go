package taskscaler

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheLastMatchingScheduleWins(t *testing.T) {
	bubble(t, func(t *testing.T) {
		// The clock of the bubble starts on Saturday, 2000-01-01 00:00 UTC.
		r := start(t, newGroup(t, 10))
		require.Equal(t, Schedule{IdleTime: 5 * time.Minute}, r.Schedule(), "none is configured")

		always := Schedule{Timezone: "UTC", IdleCount: 1, IdleTime: time.Minute}
		night := Schedule{Periods: []string{"* 0-5 * * *", "* 22-23 * * *"}, Timezone: "UTC", IdleCount: 2}
		weekend := Schedule{Periods: []string{"* * * * sat-sun"}, Timezone: "UTC", IdleCount: 3, PreemptiveMode: true, ScaleFactor: 1.5, ScaleFactorLimit: 7}
		require.NoError(t, r.ConfigureSchedule(always, night, weekend))
		require.Equal(t, weekend, r.Schedule())
		require.NoError(t, r.ConfigureSchedule(always, weekend, night))
		require.Equal(t, night, r.Schedule())
		r.wait(6 * time.Hour)
		require.Equal(t, weekend, r.Schedule())
		r.wait(42 * time.Hour)
		require.Equal(t, night, r.Schedule(), "Monday, 00:00")
		r.wait(6 * time.Hour)
		require.Equal(t, always, r.Schedule())

		require.NoError(t, r.ConfigureSchedule(night))
		require.Equal(t, Schedule{IdleTime: 5 * time.Minute}, r.Schedule(), "none matches")
	})
}

func TestABadScheduleIsAnErrorAndTheOldOnesStay(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 1))
		good := Schedule{IdleCount: 1}
		r.schedule(good)
		for message, bad := range map[string]Schedule{
			`schedule 2: parsing period "invalid"`:         {Periods: []string{"* * * * *", "invalid"}},
			`schedule 2: loading time zone "Nowhere"`:      {Timezone: "Nowhere"},
			"schedule 2: idle count -1":                    {IdleCount: -1},
			"schedule 2: idle time -1s":                    {IdleTime: -time.Second},
			"schedule 2: scale factor must":                {ScaleFactor: math.NaN()},
			"schedule 2: scale factor must be a number th": {ScaleFactor: -1},
			"schedule 2: scale factor limit -1":            {ScaleFactorLimit: -1},
		} {
			require.ErrorContains(t, r.ConfigureSchedule(Schedule{IdleCount: 9}, bad), "configuring schedules: "+message)
			require.Equal(t, good, r.Schedule())
		}
	})
}

func TestAConfiguredScheduleIsNotChangedThroughTheCallersSlice(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 1))
		periods := []string{"* * * * *"}
		r.schedule(Schedule{Periods: periods})
		periods[0] = "changed"
		require.Equal(t, []string{"* * * * *"}, r.Schedule().Periods)
	})
}

func TestTheNextReservationIsJudgedByTheNewPolicy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := start(t, newGroup(t, 1))
		require.NoError(t, r.Reserve("a"))
		r.Unreserve("a")
		r.schedule(Schedule{PreemptiveMode: true})
		require.ErrorIs(t, r.Reserve("a"), ErrNoCapacity)
	})
}

// Berlin skips from 02:00 to 03:00 on 2000-03-26 and from 03:00 back to 02:00 on 2000-10-29.
func TestPoliciesFollowTheWallClockThroughBothChangesOfTheClock(t *testing.T) {
	type moment struct {
		utc       string
		instances int
		clock     string
	}
	for name, moments := range map[string][]moment{
		"spring": {
			{"2000-03-26T00:30:00Z", 1, "01:30"},
			{"2000-03-26T00:59:00Z", 1, "01:59"},
			{"2000-03-26T01:01:00Z", 3, "03:01, right after the gap"},
			{"2000-03-26T01:59:00Z", 3, "03:59"},
			{"2000-03-26T02:01:00Z", 1, "04:01"},
		},
		"autumn": {
			{"2000-10-29T00:30:00Z", 1, "02:30 for the first time"},
			{"2000-10-29T01:30:00Z", 1, "02:30 for the second time"},
			{"2000-10-29T02:01:00Z", 3, "03:01"},
			{"2000-10-29T03:01:00Z", 1, "04:01"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				until := func(utc string) time.Duration {
					at, err := time.Parse(time.RFC3339, utc)
					require.NoError(t, err)
					return time.Until(at)
				}
				time.Sleep(until(moments[0].utc) - time.Minute)
				g := newGroup(t, 10)
				r := start(t, g)
				require.NoError(t, r.ConfigureSchedule(
					Schedule{Timezone: "Europe/Berlin", IdleCount: 1},
					Schedule{Periods: []string{"* 3 * * *"}, Timezone: "Europe/Berlin", IdleCount: 3},
				))
				for _, m := range moments {
					r.wait(until(m.utc))
					require.Len(t, g.ids(), m.instances, "%s by the clock in Berlin", m.clock)
				}
			})
		})
	}
}

func TestTheScaleFactorRaisesTheIdleTargetWithUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newGroup(t, 100)
		r := start(t, g)
		r.schedule(Schedule{IdleCount: 1, IdleTime: 0, ScaleFactor: 0.5, ScaleFactorLimit: 4})
		want := []int{2, 3, 5, 6, 8, 9, 11, 12, 13, 14} // tasks + max(1, min(ceil(tasks/2), 4))
		for i, n := range want {
			r.acquire(string(rune('a'+i)), time.Minute)
			r.wait(10 * time.Second)
			require.Len(t, g.ids(), n, "%d tasks", i+1)
		}
	})
}
