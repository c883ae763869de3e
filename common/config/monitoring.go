package config

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"gitlab.com/gitlab-org/fleeting/taskscaler/cron"
)

// Monitoring configures what is watched per runner.
type Monitoring struct {
	JobQueuingDurations []JobQueuingDuration `toml:"job_queuing_durations,omitempty"`
}

// JobQueuingDuration is one threshold of acceptable waiting in the queue.
type JobQueuingDuration struct {
	// Periods are in cron's notation, of five fields or of seven.
	Periods   []string       `toml:"periods"`
	Timezone  string         `toml:"timezone,omitempty"`
	Threshold *time.Duration `toml:"threshold,omitempty"`
	// JobsRunningForProject is a regular expression for what GitLab says of how many jobs of the project run.
	JobsRunningForProject string `toml:"jobs_running_for_project,omitempty"`
}

// AcceptableQueuing is how long a job may wait in the queue at a time: what the last entry says whose periods contain
// that time and that matches the number of running jobs. It is 0 if nothing is said. Entries that the review refuses
// say nothing.
func (m *Monitoring) AcceptableQueuing(at time.Time, jobsRunning string) time.Duration {
	if m == nil {
		return 0
	}
	var acceptable time.Duration
	for _, d := range m.JobQueuingDurations {
		if d.matches(at, jobsRunning) && d.Threshold != nil {
			acceptable = max(*d.Threshold, 0)
		}
	}
	return acceptable
}

func (d JobQueuingDuration) matches(at time.Time, jobsRunning string) bool {
	running, err := regexp.Compile(d.JobsRunningForProject)
	if err != nil || !running.MatchString(jobsRunning) {
		return false
	}
	for _, period := range d.Periods {
		schedule, err := parsePeriod(period, d.Timezone)
		if err == nil && schedule.Contains(at) {
			return true
		}
	}
	return false
}

const shortPeriod = 5 // fields

func parsePeriod(period, timezone string) (cron.Schedule, error) {
	if len(strings.Fields(period)) == shortPeriod {
		return cron.Parse(period, timezone)
	}
	return cron.ParseLong(period, timezone)
}

// monitoring reviews the thresholds of an entry.
func (r *review) monitoring(path string, m *Monitoring) {
	for i, d := range m.JobQueuingDurations {
		at := fmt.Sprintf("%smonitoring.job_queuing_durations[%d].", path, i)
		if !r.zone(at+"timezone", d.Timezone) {
			continue
		}
		if len(d.Periods) == 0 {
			r.warn(at+"periods", "there are no periods: the threshold never holds; write periods = [\"* * * * * * *\"] for always")
		}
		for _, period := range d.Periods {
			if _, err := parsePeriod(period, d.Timezone); err != nil {
				r.fail(at+"periods", "%v", err)
			}
		}
		if _, err := regexp.Compile(d.JobsRunningForProject); err != nil {
			r.fail(at+"jobs_running_for_project", "%q is not a regular expression: %v", d.JobsRunningForProject, err)
		}
		if d.Threshold == nil {
			r.warn(at+"threshold", "there is no threshold: the entry has no effect; write one such as threshold = \"5m\"")
		}
	}
}

// zone reviews the name of a time zone.
func (r *review) zone(path, name string) bool {
	_, err := time.LoadLocation(name)
	if err != nil {
		r.fail(path, "timezone %q is unknown: write one such as \"Europe/Berlin\"", name)
	}
	return err == nil
}
