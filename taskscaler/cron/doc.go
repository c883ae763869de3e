// Package cron decides whether a moment lies in a period written in cron's notation. A schedule is a
// set of minutes, not a trigger: "* 8-17 * * mon-fri" holds from 08:00:00 to 17:59:59 on weekdays, by
// the clock on the wall of its time zone. A minute that the change to summer time skips is never
// contained, one that the change back repeats is contained twice.
//
// The package depends on nothing but the standard library; anybody may import it.
package cron
