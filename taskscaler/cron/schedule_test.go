package cron

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func at(t *testing.T, zone, wall string) time.Time {
	t.Helper()
	location, err := time.LoadLocation(zone)
	require.NoError(t, err)
	parsed, err := time.ParseInLocation("2006-01-02 15:04:05", wall, location)
	require.NoError(t, err)
	return parsed
}

func TestContains(t *testing.T) {
	// 2026-03-02 is a Monday.
	tests := []struct {
		spec string
		wall string
		want bool
	}{
		{"* * * * *", "2026-03-02 10:00:00", true},
		{"* 8-17 * * mon-fri", "2026-03-02 10:00:00", true},
		{"* 8-17 * * mon-fri", "2026-03-07 10:00:00", false},
		{"* 8-17 * * mon-fri", "2026-03-02 20:00:00", false},
		{"* 8-17 * * MON-Fri", "2026-03-06 17:59:59", true},
		{"* 8-17 * * mon-fri", "2026-03-06 18:00:00", false},
		{"* 8-15 * * *", "2026-03-02 07:59:59", false},
		{"* 8-15 * * *", "2026-03-02 08:00:00", true},
		{"* 8-15 * * *", "2026-03-02 15:59:59", true},
		{"* 8-15 * * *", "2026-03-02 16:00:00", false},
		{"0-14,45-59 * * * *", "2026-03-02 10:14:00", true},
		{"0-14,45-59 * * * *", "2026-03-02 10:15:00", false},
		{"*/15 * * * *", "2026-03-02 10:45:00", true},
		{"*/15 * * * *", "2026-03-02 10:46:00", false},
		{"10-20/5 * * * *", "2026-03-02 10:15:00", true},
		{"10-20/5 * * * *", "2026-03-02 10:25:00", false},
		{"* * 1 * mon", "2026-03-01 10:00:00", false}, // the first, a Sunday
		{"* * 2 * mon", "2026-03-02 10:00:00", true},
		{"* * * mar *", "2026-03-02 10:00:00", true},
		{"* * * 4-12 *", "2026-03-02 10:00:00", false},
		{"* * * * 0", "2026-03-01 10:00:00", true},
		{"* * * * 7", "2026-03-01 10:00:00", true},
		{"* * * * sun", "2026-03-01 10:00:00", true},
		{"* * * * 6-7", "2026-03-01 10:00:00", true},
		{"* * * * sat-sun", "2026-03-07 10:00:00", true},
		{"* * * * sun-tue", "2026-03-01 10:00:00", true},
		{"* * * * sun-tue", "2026-03-03 10:00:00", true},
		{"* * * * sun-tue", "2026-03-04 10:00:00", false},
		{"* * * * 0-2", "2026-03-02 10:00:00", true},
		{"* * * * */2", "2026-03-02 10:00:00", true},
		{"* * * * */2", "2026-03-03 10:00:00", false},
		{"  *\t8-17  * * mon-fri ", "2026-03-02 10:00:00", true},
	}
	for _, tt := range tests {
		t.Run(tt.spec+" at "+tt.wall, func(t *testing.T) {
			schedule, err := Parse(tt.spec, "UTC")
			require.NoError(t, err)
			require.Equal(t, tt.want, schedule.Contains(at(t, "UTC", tt.wall)))
		})
	}
}

func TestLongSpecificationsHaveSecondsAndYears(t *testing.T) {
	tests := []struct {
		spec string
		wall string
		want bool
	}{
		{"* * * * * * *", "2026-03-02 10:00:59", true},
		{"0-29 * * * * * *", "2026-03-02 10:00:29", true},
		{"0-29 * * * * * *", "2026-03-02 10:00:30", false},
		{"* * 8-18 * * mon-fri *", "2026-03-02 18:59:59", true},
		{"* * 8-18 * * mon-fri *", "2026-03-01 18:00:00", false},
		{"* * * * * * 2026", "2026-03-02 10:00:00", true},
		{"* * * * * * 2027-2040/2,2099", "2027-03-02 10:00:00", true},
		{"* * * * * * 2027-2040/2,2099", "2028-03-02 10:00:00", false},
		{"* * * * * * 2027-2040/2,2099", "2099-03-02 10:00:00", true},
	}
	for _, tt := range tests {
		t.Run(tt.spec+" at "+tt.wall, func(t *testing.T) {
			schedule, err := ParseLong(tt.spec, "UTC")
			require.NoError(t, err)
			require.Equal(t, tt.want, schedule.Contains(at(t, "UTC", tt.wall)))
		})
	}
	for spec, message := range map[string]string{
		"* * * * *":        "expected 7 fields (second, minute,",
		"60 * * * * * *":   "second: 60 is not between 0 and 59",
		"* * * * * * 1969": "year: 1969 is not between 1970 and 2099",
		"* 60 * * * * *":   "minute: 60",
	} {
		_, err := ParseLong(spec, "UTC")
		require.ErrorContains(t, err, message)
	}
}

func TestTheZeroScheduleContainsNothing(t *testing.T) {
	require.False(t, Schedule{}.Contains(time.Now()))
}

func TestTheZoneOfTheScheduleCountsNotThatOfTheMoment(t *testing.T) {
	schedule, err := Parse("* 8 * * *", "America/New_York")
	require.NoError(t, err)
	require.True(t, schedule.Contains(at(t, "UTC", "2026-01-15 13:30:00")))
	require.False(t, schedule.Contains(at(t, "UTC", "2026-01-15 08:30:00")))
}

func TestAnEmptyZoneIsTheLocalOne(t *testing.T) {
	schedule, err := Parse("* 8 * * *", "")
	require.NoError(t, err)
	require.True(t, schedule.Contains(time.Date(2026, 1, 15, 8, 30, 0, 0, time.Local)))
	require.False(t, schedule.Contains(time.Date(2026, 1, 15, 9, 30, 0, 0, time.Local)))
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ spec, message string }{
		{"", "expected 5 fields"},
		{"invalid", "expected 5 fields"},
		{"* * * *", "found 4"},
		{"* * * * * *", "found 6"},
		{"@daily", "expected 5 fields"},
		{"60 * * * *", "minute: 60 is not between 0 and 59"},
		{"* 24 * * *", "hour: 24 is not between 0 and 23"},
		{"* * 0 * *", "day of month: 0 is not between 1 and 31"},
		{"* * 32 * *", "day of month: 32"},
		{"* * * 0 *", "month: 0 is not between 1 and 12"},
		{"* * * 13 *", "month: 13"},
		{"* * * * 8", "day of week: 8 is not between 0 and 7"},
		{"* * * * funday", `day of week: "funday" is not a number`},
		{"mon * * * *", `minute: "mon" is not a number`},
		{"17-8 * * * *", `range "17-8" runs backwards`},
		{"* * * * fri-mon", `range "fri-mon" runs backwards`},
		{"*/0 * * * *", "must not be 0"},
		{"5/10 * * * *", "a step needs"},
		{"1,, * * * *", "is not a number"},
		{"-1 * * * *", "is not a number"},
		{"+1 * * * *", "is not a number"},
		{"1-2-3 * * * *", "is not a number"},
		{"*/2/3 * * * *", "is not a number"},
		{"** * * * *", "is not a number"},
		{"? * * * *", "is not a number"},
		{"99999999999999999999 * * * *", "is not a number"},
	}
	for _, tt := range tests {
		t.Run(tt.spec, func(t *testing.T) {
			_, err := Parse(tt.spec, "UTC")
			require.ErrorContains(t, err, tt.message)
			require.ErrorContains(t, err, fmt.Sprintf("%q", tt.spec))
		})
	}
}

func TestParseNamesAnUnknownZone(t *testing.T) {
	_, err := Parse("* * * * *", "Mars/Olympus_Mons")
	require.ErrorContains(t, err, `loading time zone "Mars/Olympus_Mons"`)
}

// Berlin skips 02:00 to 02:59 on 2026-03-29 and repeats it on 2026-10-25.
func TestContainsFollowsTheWallClockThroughBothChangesOfTheClock(t *testing.T) {
	night, err := Parse("* 2 * * *", "Europe/Berlin")
	require.NoError(t, err)
	day, err := Parse("* 3-5 * * *", "Europe/Berlin")
	require.NoError(t, err)

	count := func(schedule Schedule, from, to string) (minutes int) {
		end := at(t, "UTC", to)
		for m := at(t, "UTC", from); m.Before(end); m = m.Add(time.Minute) {
			if schedule.Contains(m) {
				minutes++
			}
		}
		return minutes
	}

	require.Equal(t, 0, count(night, "2026-03-28 23:00:00", "2026-03-29 22:00:00"), "the skipped hour")
	require.Equal(t, 180, count(day, "2026-03-28 23:00:00", "2026-03-29 22:00:00"))
	require.Equal(t, 120, count(night, "2026-10-24 22:00:00", "2026-10-25 23:00:00"), "the repeated hour")
	require.Equal(t, 180, count(day, "2026-10-24 22:00:00", "2026-10-25 23:00:00"))

	require.False(t, day.Contains(at(t, "UTC", "2026-03-29 00:59:59")), "01:59:59 before the gap")
	require.True(t, day.Contains(at(t, "UTC", "2026-03-29 01:00:00")), "03:00:00 right after the gap")
}

func TestContainsSeesTheClockMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The bubble's clock starts at 2000-01-01 00:00:00 UTC, a Saturday.
		schedule, err := Parse("* 1 * * sat", "UTC")
		require.NoError(t, err)
		require.False(t, schedule.Contains(time.Now()))
		time.Sleep(time.Hour)
		require.True(t, schedule.Contains(time.Now()))
		time.Sleep(time.Hour - time.Nanosecond)
		require.True(t, schedule.Contains(time.Now()))
		time.Sleep(time.Nanosecond)
		require.False(t, schedule.Contains(time.Now()))
	})
}

// TestContainsAgreesWithSetsOfValues generates specifications together with the values they mean.
func TestContainsAgreesWithSetsOfValues(t *testing.T) {
	bounds := [5][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {1, 7}}
	rapid.Check(t, func(t *rapid.T) {
		var texts []string
		var want [5]map[int]bool
		for i, bound := range bounds {
			want[i] = map[int]bool{}
			var parts []string
			for range rapid.IntRange(1, 3).Draw(t, "elements") {
				low := rapid.IntRange(bound[0], bound[1]).Draw(t, "low")
				high := rapid.IntRange(low, bound[1]).Draw(t, "high")
				step := 1
				var text string
				switch rapid.IntRange(0, 3).Draw(t, "form") {
				case 0:
					high = low
					text = fmt.Sprint(low)
				case 1:
					text = fmt.Sprintf("%d-%d", low, high)
				case 2:
					step = rapid.IntRange(1, 70).Draw(t, "step")
					text = fmt.Sprintf("%d-%d/%d", low, high, step)
				case 3:
					low, high = bound[0], bound[1]
					step = rapid.IntRange(1, 70).Draw(t, "step")
					text = fmt.Sprintf("*/%d", step)
				}
				parts = append(parts, text)
				for n := low; n <= high; n += step {
					want[i][n] = true
				}
			}
			texts = append(texts, strings.Join(parts, ","))
		}
		schedule, err := Parse(strings.Join(texts, " "), "UTC")
		if err != nil {
			t.Fatal(err)
		}

		moment := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "moment"), 0).UTC()
		day := int(moment.Weekday())
		if day == 0 {
			day = 7
		}
		expected := want[0][moment.Minute()] && want[1][moment.Hour()] && want[2][moment.Day()] &&
			want[3][int(moment.Month())] && want[4][day]
		if got := schedule.Contains(moment); got != expected {
			t.Fatalf("%v contains %v: %v, expected %v", texts, moment, got, expected)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, spec := range []string{"* * * * *", "*/5 8-17 1,15 jan-jun mon-fri", "0 0 0 0 0", "5/10 * * * *", "* * * * 7-2", "1-1/1 , * * *"} {
		f.Add(spec, "UTC")
	}
	f.Add("* * * * *", "Europe/Berlin")
	f.Fuzz(func(t *testing.T, spec, zone string) {
		schedule, err := Parse(spec, zone)
		if err != nil {
			return
		}
		// Each field of an accepted specification selects something.
		for _, s := range []set{schedule.minute, schedule.hour, schedule.dayOfMonth, schedule.month, schedule.dayOfWeek} {
			if s == 0 {
				t.Fatalf("%q was accepted with an empty field", spec)
			}
		}
		if schedule.dayOfWeek>>7 != 0 || schedule.month>>13 != 0 || schedule.dayOfMonth>>32 != 0 || schedule.hour>>24 != 0 || schedule.minute>>60 != 0 {
			t.Fatalf("%q was accepted with values out of range", spec)
		}
	})
}
