package cron

import (
	"fmt"
	"strings"
	"time"
)

// Schedule is a set of minutes, or of seconds. The zero value contains none. It is immutable and safe for
// concurrent use.
type Schedule struct {
	second, minute, hour, dayOfMonth, month, dayOfWeek set
	// years is nil if every year will do.
	years    map[int]bool
	location *time.Location
}

// set has bit n set if it contains n.
type set uint64

// every contains all seconds.
const every = ^set(0)

func (s set) has(n int) bool { return s&(1<<n) != 0 }

// Parse reads a specification of five fields separated by white space: minute (0-59), hour (0-23),
// day of month (1-31), month (1-12 or jan-dec) and day of week (1-7 from Monday or mon-sun; 0 is
// Sunday too). A field is a list, separated by commas, of "*", a value, or a range "a-b"; "*" and
// ranges may have a step "/n". All five fields must match: if both days are restricted, a minute lies
// in the schedule when the day satisfies both.
//
// timezone is a name of the IANA database; the empty name is the system's local zone.
func Parse(spec, timezone string) (Schedule, error) {
	texts := strings.Fields(spec)
	if len(texts) != len(fields) {
		return Schedule{}, fmt.Errorf("parsing period %q: expected 5 fields (minute, hour, day of month, month, day of week), found %d", spec, len(texts))
	}
	return parse(spec, texts, timezone)
}

// ParseLong is Parse for seven fields: seconds (0-59) stand before the five, and years (1970-2099) after them.
func ParseLong(spec, timezone string) (Schedule, error) {
	texts := strings.Fields(spec)
	if len(texts) != len(fields)+2 {
		return Schedule{}, fmt.Errorf("parsing period %q: expected 7 fields (second, minute, hour, day of month, month, day of week, year), found %d", spec, len(texts))
	}
	s, err := parse(spec, texts[1:len(texts)-1], timezone)
	if err != nil {
		return Schedule{}, err
	}
	if s.second, err = secondField.parse(texts[0]); err != nil {
		return Schedule{}, fmt.Errorf("parsing period %q: %s: %w", spec, secondField.name, err)
	}
	if years := texts[len(texts)-1]; years != "*" {
		s.years = map[int]bool{}
		if err := yearField.each(years, func(year int) { s.years[year] = true }); err != nil {
			return Schedule{}, fmt.Errorf("parsing period %q: %s: %w", spec, yearField.name, err)
		}
	}
	return s, nil
}

func parse(spec string, texts []string, timezone string) (Schedule, error) {
	location := time.Local
	if timezone != "" {
		var err error
		if location, err = time.LoadLocation(timezone); err != nil {
			return Schedule{}, fmt.Errorf("loading time zone %q: %w", timezone, err)
		}
	}

	var sets [len(fields)]set
	for i, f := range fields {
		s, err := f.parse(texts[i])
		if err != nil {
			return Schedule{}, fmt.Errorf("parsing period %q: %s: %w", spec, f.name, err)
		}
		sets[i] = s
	}

	return Schedule{
		second:     every,
		minute:     sets[0],
		hour:       sets[1],
		dayOfMonth: sets[2],
		month:      sets[3],
		dayOfWeek:  sets[4],
		location:   location,
	}, nil
}

// Contains tells whether the second of t, as a clock in the schedule's zone shows it, is in the set.
func (s Schedule) Contains(t time.Time) bool {
	if s.location == nil {
		return false
	}
	t = t.In(s.location)
	return s.second.has(t.Second()) &&
		s.minute.has(t.Minute()) &&
		s.hour.has(t.Hour()) &&
		s.dayOfMonth.has(t.Day()) &&
		s.month.has(int(t.Month())) &&
		s.dayOfWeek.has(int(t.Weekday())) &&
		(s.years == nil || s.years[t.Year()])
}
