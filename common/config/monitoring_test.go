package config_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func TestTheLastMatchingThresholdSaysHowLongAJobMayWait(t *testing.T) {
	monday, sunday := time.Date(2026, 3, 2, 10, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	m := &config.Monitoring{JobQueuingDurations: []config.JobQueuingDuration{
		{Periods: []string{"* * * * * * *"}, Timezone: "UTC", Threshold: new(30 * time.Minute)},
		{Periods: []string{"* 0-7 * * *", "* * 8-18 * * mon-fri *"}, Timezone: "UTC", Threshold: new(time.Minute), JobsRunningForProject: `^(\d|Inf\+)$`},
		{Periods: []string{"* * * * * * *"}, Timezone: "UTC", Threshold: new(time.Duration(0)), JobsRunningForProject: "^9$"},
		{Periods: []string{"nonsense"}, Threshold: new(time.Second)},
		{Periods: []string{"* * * * * * *"}, Timezone: "UTC"},
	}}
	for _, c := range []struct {
		at      time.Time
		running string
		want    time.Duration
	}{
		{monday, "3", time.Minute},
		{monday, "30", 30 * time.Minute},
		{sunday, "3", 30 * time.Minute},
		{sunday.Add(-5 * time.Hour), "3", time.Minute},
		{monday, "9", 0},
	} {
		require.Equal(t, c.want, m.AcceptableQueuing(c.at, c.running), "%s with %s", c.at, c.running)
	}
	require.Zero(t, (*config.Monitoring)(nil).AcceptableQueuing(monday, "3"))
}

func TestFindingsOfPeriodsNameTheirPlace(t *testing.T) {
	text := `[[runners]]
  name = "one"
  url = "https://gitlab.example.com"
  token = "glrt-t3_0123456789"
  executor = "docker-autoscaler"
  [runners.docker]
    image = "busybox"
  [[runners.monitoring.job_queuing_durations]]
    periods = ["* * * * * * *", "* 25 * * *", "* *"]
    threshold = "5m"
    jobs_running_for_project = "("
  [[runners.monitoring.job_queuing_durations]]
    timezone = "Middle/Earth"
  [[runners.monitoring.job_queuing_durations]]
    timezone = "UTC"
  [runners.autoscaler]
    plugin = "aws"
    [[runners.autoscaler.policy]]
      periods = ["* 8-17 * * mon-fri", "0 9 * *"]
`
	findings, err := config.Check(write(t, text), vocabulary)
	require.NoError(t, err)
	const at = "runners[0].monitoring.job_queuing_durations"
	requireEach(t, []string{
		`9:5: error: ` + at + `[0].periods: parsing period "* 25 * * *": hour: 25 is not between 0 and 23`,
		`9:5: error: ` + at + `[0].periods: parsing period "* *": expected 7 fields`,
		`11:5: error: ` + at + `[0].jobs_running_for_project: "(" is not a regular expression`,
		`13:5: error: ` + at + `[1].timezone: timezone "Middle/Earth" is unknown`,
		`14:24: warning: ` + at + `[2].periods: there are no periods`,
		`14:24: warning: ` + at + `[2].threshold: there is no threshold`,
		`19:7: error: runners[0].autoscaler.policy[0].periods: parsing period "0 9 * *": expected 5 fields`,
	}, findings)
}
