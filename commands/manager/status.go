package manager

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/autoscaler"
)

// Fleets shows the instances that an executor has, and drains them.
type Fleets interface {
	Fleets() []autoscaler.FleetStatus
	Drain(instance string, accept func(runner, name string) bool) error
}

// Status is what a manager does at one moment, for people. It holds no secret.
type Status struct {
	At       time.Time    `json:"at"`
	Version  string       `json:"version"`
	SystemID string       `json:"system_id"`
	State    ProcessState `json:"state"`
	// Concurrent is how many jobs may run at once.
	Concurrent int                      `json:"concurrent"`
	Runners    []RunnerStatus           `json:"runners"`
	Jobs       []JobView                `json:"jobs"`
	Fleets     []autoscaler.FleetStatus `json:"fleets"`
}

// RunnerStatus is one runner entry.
type RunnerStatus struct {
	// Runner is the short token.
	Runner   string `json:"runner"`
	Name     string `json:"runner_name"`
	URL      string `json:"url"`
	Executor string `json:"executor"`
	// Limit is 0 without a limit.
	Limit int `json:"limit"`
	Jobs  int `json:"jobs"`
	// Requests is the number of job requests in flight.
	Requests int `json:"requests"`
	// Paused: it asks for no more jobs until it is resumed, or the process starts anew.
	Paused bool `json:"paused"`
	// Unhealthy: so many of its requests were refused that it asks for no jobs for a while.
	Unhealthy bool `json:"unhealthy"`
}

// JobView is one job under way.
type JobView struct {
	ID            int64     `json:"id"`
	URL           string    `json:"url"`
	Runner        string    `json:"runner"`
	RunnerName    string    `json:"runner_name"`
	State         string    `json:"state"`
	Stage         string    `json:"stage"`
	ExecutorStage string    `json:"executor_stage"`
	Instance      string    `json:"instance"`
	Started       time.Time `json:"started"`
}

// ErrUnknownRunner is wrapped by the errors of calls that name a runner that the configuration has not.
var ErrUnknownRunner = errors.New("there is no such runner in the configuration")

// Status returns what the manager does now. No lock is held when it returns.
func (m *Manager) Status() Status {
	file := m.Config()
	out := Status{
		At: time.Now(), Version: m.options.Version.Version, SystemID: m.options.SystemID, State: m.State(),
		Concurrent: file.Concurrent, Runners: []RunnerStatus{}, Jobs: []JobView{}, Fleets: []autoscaler.FleetStatus{},
	}
	count := map[config.Identity]int{}
	for _, job := range m.Jobs() {
		count[job.Runner.Identity()]++
		out.Jobs = append(out.Jobs, JobView{
			ID: job.ID, URL: withoutUser(job.URL), Runner: job.Runner.ShortToken(), RunnerName: job.Runner.Name,
			State: string(job.Status.State), Stage: job.Status.Stage, ExecutorStage: job.Status.ExecutorStage,
			Instance: job.Status.Instance, Started: job.Status.Started,
		})
	}
	for _, runner := range file.Runners {
		out.Runners = append(out.Runners, RunnerStatus{
			Runner: runner.ShortToken(), Name: runner.Name, URL: withoutUser(runner.URL), Executor: runner.Executor,
			Limit: runner.Limit, Jobs: count[runner.Identity()], Requests: m.requests.counts(runner).inFlight,
			Paused: m.pauses.has(runner), Unhealthy: m.health.parked(runner),
		})
	}
	if m.options.Fleets != nil {
		out.Fleets = m.options.Fleets.Fleets()
	}
	return out
}

// withoutUser removes credentials from a URL.
func withoutUser(text string) string {
	parsed, err := url.Parse(text)
	if err != nil {
		return ""
	}
	parsed.User = nil
	return parsed.String()
}

// Pause has the runner entries with a name or short token, all entries if it is empty, ask for no more
// jobs; those that run go on. A request under way may still bring one. It returns the names of the
// entries. It lasts until Resume or the end of the process.
func (m *Manager) Pause(selector string) ([]string, error) { return m.setPaused(selector, true) }

// Resume takes Pause back.
func (m *Manager) Resume(selector string) ([]string, error) { return m.setPaused(selector, false) }

func (m *Manager) setPaused(selector string, paused bool) ([]string, error) {
	var names []string
	for _, runner := range m.Config().Runners {
		if !selects(selector, runner.ShortToken(), runner.Name) {
			continue
		}
		names = append(names, cmp.Or(runner.Name, runner.ShortToken()))
		if m.pauses.set(runner, paused) {
			text := "The runner takes jobs again"
			if paused {
				text = "The runner is paused by the operator: it takes no new jobs"
			}
			m.log.WithField("runner", runner.ShortToken()).WithField("runner_name", runner.Name).Warning(text)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%w: %q", ErrUnknownRunner, selector)
	}
	return names, nil
}

// Drain has an instance, of the runner entries with a name or short token or of any, take no more jobs
// and removed when it has none.
func (m *Manager) Drain(selector, instance string) error {
	if m.options.Fleets == nil {
		return fmt.Errorf("draining instance %q: %w", instance, autoscaler.ErrUnknownInstance)
	}
	err := m.options.Fleets.Drain(instance, func(runner, name string) bool { return selects(selector, runner, name) })
	if err == nil {
		m.log.WithField("instance", instance).Warning("The instance is drained by the operator")
	}
	return err
}

func selects(selector, runner, name string) bool {
	return selector == "" || selector == runner || selector == name
}
