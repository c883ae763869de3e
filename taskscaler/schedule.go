package taskscaler

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"gitlab.com/gitlab-org/fleeting/taskscaler/cron"
	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
)

// defaultIdleTime holds while no schedule is in force.
const defaultIdleTime = 5 * time.Minute

// Schedule says how much capacity is kept in reserve, and when that holds.
type Schedule struct {
	// Periods are minutes in cron's notation; see package cron. None is always.
	Periods []string
	// Timezone is the zone of the periods; empty is the local one.
	Timezone string
	// IdleCount is the number of idle slots to keep.
	IdleCount int
	// IdleTime is how long an instance that is not needed stays idle before it is removed.
	IdleTime time.Duration
	// ScaleFactor raises the number of idle slots to this multiple of the acquired ones, but not
	// beyond ScaleFactorLimit if that is set.
	ScaleFactor      float64
	ScaleFactorLimit int
	// PreemptiveMode accepts tasks only when a slot is free already.
	PreemptiveMode bool
}

func (s Schedule) policy() fleet.Policy {
	return fleet.Policy{
		IdleCount:        s.IdleCount,
		IdleTime:         s.IdleTime,
		ScaleFactor:      s.ScaleFactor,
		ScaleFactorLimit: s.ScaleFactorLimit,
		Preemptive:       s.PreemptiveMode,
	}
}

// timetable is a list of schedules with their periods parsed. It is immutable.
type timetable []timetableEntry

type timetableEntry struct {
	schedule Schedule
	periods  []cron.Schedule
}

func newTimetable(schedules []Schedule) (timetable, error) {
	table := make(timetable, 0, len(schedules))
	for i, schedule := range schedules {
		entry, err := newTimetableEntry(schedule)
		if err != nil {
			return nil, fmt.Errorf("schedule %d: %w", i+1, err)
		}
		table = append(table, entry)
	}
	return table, nil
}

func newTimetableEntry(schedule Schedule) (timetableEntry, error) {
	switch {
	case schedule.IdleCount < 0:
		return timetableEntry{}, fmt.Errorf("idle count %d must not be negative", schedule.IdleCount)
	case schedule.IdleTime < 0:
		return timetableEntry{}, fmt.Errorf("idle time %s must not be negative", schedule.IdleTime)
	case schedule.ScaleFactorLimit < 0:
		return timetableEntry{}, fmt.Errorf("scale factor limit %d must not be negative", schedule.ScaleFactorLimit)
	case schedule.ScaleFactor < 0, math.IsNaN(schedule.ScaleFactor), math.IsInf(schedule.ScaleFactor, 0):
		return timetableEntry{}, errors.New("scale factor must be a number that is not negative")
	}

	// The caller may go on using its slice.
	schedule.Periods = slices.Clone(schedule.Periods)
	entry := timetableEntry{schedule: schedule}
	specs := schedule.Periods
	if len(specs) == 0 {
		specs = []string{"* * * * *"}
	}
	for _, spec := range specs {
		period, err := cron.Parse(spec, schedule.Timezone)
		if err != nil {
			return timetableEntry{}, err
		}
		entry.periods = append(entry.periods, period)
	}
	return entry, nil
}

// at returns the schedule in force at a moment: the last one with a period that contains it.
func (t timetable) at(now time.Time) Schedule {
	for _, entry := range slices.Backward(t) {
		for _, period := range entry.periods {
			if period.Contains(now) {
				return entry.schedule
			}
		}
	}
	return Schedule{IdleTime: defaultIdleTime}
}
