package cron

import (
	"fmt"
	"strconv"
	"strings"
)

// field describes one of the five fields. A value lies between min and max; a "*" covers first to max,
// which differs from min to max where a value has two names.
type field struct {
	name            string
	min, first, max int
	// names are alternative spellings, in lower case.
	names map[string]int
	// fold maps a value to the one that the calendar uses.
	fold func(int) int
}

const sunday = 7

// fields is never written to.
var fields = [5]field{
	{name: "minute", max: 59},
	{name: "hour", max: 23},
	{name: "day of month", min: 1, first: 1, max: 31},
	{name: "month", min: 1, first: 1, max: 12, names: map[string]int{
		"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6,
		"jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
	}},
	{name: "day of week", min: 0, first: 1, max: sunday, names: map[string]int{
		"mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6, "sun": sunday,
	}, fold: func(day int) int { return day % sunday }},
}

// The fields that only long specifications have.
var (
	secondField = field{name: "second", max: 59}
	yearField   = field{name: "year", min: 1970, first: 1970, max: 2099}
)

func (f field) parse(text string) (set, error) {
	var s set
	err := f.each(text, func(value int) { s |= 1 << value })
	return s, err
}

// each calls use with each value of the field.
func (f field) each(text string, use func(int)) error {
	for part := range strings.SplitSeq(text, ",") {
		low, high, step, err := f.span(part)
		if err != nil {
			return err
		}
		for n := low; n <= high; n += step {
			value := n
			if f.fold != nil {
				value = f.fold(n)
			}
			use(value)
		}
	}
	return nil
}

// span reads one element of a list.
func (f field) span(part string) (low, high, step int, err error) {
	body, stepText, stepped := strings.Cut(part, "/")
	step = 1
	if stepped {
		if step, err = number(stepText); err != nil {
			return 0, 0, 0, fmt.Errorf("step of %q: %w", part, err)
		}
		if step == 0 {
			return 0, 0, 0, fmt.Errorf("step of %q must not be 0", part)
		}
	}

	if body == "*" {
		return f.first, f.max, step, nil
	}

	lowText, highText, ranged := strings.Cut(body, "-")
	if stepped && !ranged {
		return 0, 0, 0, fmt.Errorf("%q: a step needs \"*\" or a range before it", part)
	}
	if low, err = f.value(lowText); err != nil {
		return 0, 0, 0, err
	}
	if !ranged {
		return low, low, step, nil
	}
	if high, err = f.value(highText); err != nil {
		return 0, 0, 0, err
	}
	if f.fold != nil && high < low && low == f.max {
		// A week may begin with Sunday: sun-tue.
		low = f.min
	}
	if high < low {
		return 0, 0, 0, fmt.Errorf("range %q runs backwards; write it as two ranges separated by a comma", body)
	}
	return low, high, step, nil
}

func (f field) value(text string) (int, error) {
	if n, ok := f.names[strings.ToLower(text)]; ok {
		return n, nil
	}
	n, err := number(text)
	if err != nil {
		return 0, err
	}
	if n < f.min || n > f.max {
		return 0, fmt.Errorf("%d is not between %d and %d", n, f.min, f.max)
	}
	return n, nil
}

// number accepts digits only: strconv would take a sign as well.
func number(text string) (int, error) {
	const maxDigits = 4
	if text == "" || len(text) > maxDigits || strings.Trim(text, "0123456789") != "" {
		return 0, fmt.Errorf("%q is not a number that can stand here", text)
	}
	return strconv.Atoi(text)
}
