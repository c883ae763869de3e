package manager

import (
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

// Metrics are those of the manager. Names, labels and buckets are a public contract.
type Metrics struct {
	jobsTotal          *prometheus.CounterVec
	jobDuration        *prometheus.HistogramVec
	queueDuration      *prometheus.HistogramVec
	stageDuration      *prometheus.HistogramVec
	queuedTooLong      *prometheus.CounterVec
	queueSize          *prometheus.GaugeVec
	queueDepth         *prometheus.GaugeVec
	failedJobs         *prometheus.CounterVec
	executionMode      *prometheus.CounterVec
	feeds              *prometheus.CounterVec
	feedFailures       *prometheus.CounterVec
	healthFailures     *prometheus.CounterVec
	processingFailures *prometheus.CounterVec
	requestsExceeded   *prometheus.CounterVec
	slotOperations     *prometheus.CounterVec
	configLoaded       prometheus.Counter
	configFailed       prometheus.Counter
	configSaved        prometheus.Counter
	configNotSaved     prometheus.Counter
	interpolations     prometheus.Counter
	inputFailures      *prometheus.CounterVec
	apiStatuses        *prometheus.CounterVec
	apiDuration        *prometheus.HistogramVec
	apiAttempts        *prometheus.CounterVec
	logged             *prometheus.CounterVec

	mu      sync.Mutex
	manager *Manager
}

var (
	durationBuckets = []float64{30, 60, 300, 600, 1800, 3600, 7200, 10800, 18000, 36000}
	queueBuckets    = []float64{1, 3, 10, 30, 60, 120, 300, 900, 1800, 3600}
	apiBuckets      = []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}
)

// NewMetrics returns the metrics, registered.
func NewMetrics(registry prometheus.Registerer, v version.Info) *Metrics {
	runner := []string{"runner", "runner_name", "system_id"}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "gitlab_runner_" + name, Help: help}, labels)
		registry.MustRegister(vec)
		return vec
	}
	plain := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "gitlab_runner_" + name, Help: help})
		registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		vec := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "gitlab_runner_" + name, Help: help}, labels)
		registry.MustRegister(vec)
		return vec
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		vec := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "gitlab_runner_" + name, Help: help, Buckets: buckets}, labels)
		registry.MustRegister(vec)
		return vec
	}
	with := func(more ...string) []string { return append(append([]string(nil), runner...), more...) }

	m := &Metrics{
		jobsTotal:          counter("jobs_total", "Jobs handled.", runner...),
		jobDuration:        histogram("job_duration_seconds", "Duration of jobs.", durationBuckets, with("mode")...),
		queueDuration:      histogram("job_queue_duration_seconds", "Time of jobs in the queue.", queueBuckets, with("project_jobs_running")...),
		stageDuration:      histogram("job_stage_duration_seconds", "Duration of the stages of jobs with FF_EXPORT_HIGH_CARDINALITY_METRICS.", queueBuckets, with("stage")...),
		queuedTooLong:      counter("acceptable_job_queuing_duration_exceeded_total", "Jobs that waited in the queue for longer than is acceptable.", runner...),
		queueSize:          gauge("job_queue_size", "Jobs in the queue at the latest hand-out.", runner...),
		queueDepth:         gauge("job_queue_depth", "Depth of the latest job in the queue.", runner...),
		failedJobs:         counter("failed_jobs_total", "Jobs that failed.", "runner", "runner_name", "failure_reason", "mode"),
		executionMode:      counter("job_execution_mode_total", "Jobs by how their steps are run.", "mode", "executor"),
		feeds:              counter("worker_feeds_total", "Times an entry was offered to a worker.", runner...),
		feedFailures:       counter("worker_feed_failures_total", "Times an entry was not offered to a worker.", runner...),
		healthFailures:     counter("worker_health_check_failures_total", "Requests that counted against an entry's health.", runner...),
		processingFailures: counter("worker_processing_failures_total", "Times a worker could not get or run a job.", with("failure_type")...),
		requestsExceeded:   counter("request_concurrency_exceeded_total", "Requests not made because of request_concurrency.", "runner", "system_id"),
		slotOperations:     counter("worker_slot_operations_total", "Worker slots taken and given back.", "operation"),
		configLoaded:       plain("configuration_loaded_total", "Times the configuration was loaded."),
		configFailed:       plain("configuration_loading_error_total", "Times the configuration could not be loaded."),
		configSaved:        plain("configuration_saved_total", "Times the configuration was saved with a new token."),
		configNotSaved:     plain("configuration_saving_error_total", "Times the configuration could not be saved."),
		interpolations:     plain("job_inputs_interpolations_total", "Jobs whose inputs were interpolated."),
		inputFailures:      counter("job_inputs_interpolation_failures_total", "Jobs whose inputs could not be interpolated.", "error_type"),
		apiStatuses:        counter("api_request_statuses_total", "Answers of GitLab's API.", "runner", "system_id", "endpoint", "status", "method"),
		apiDuration:        histogram("api_request_duration_seconds", "Duration of requests to GitLab's API.", apiBuckets, "runner", "system_id", "endpoint", "status_class", "method"),
		apiAttempts:        counter("api_request_retries_total", "Attempts at requests to GitLab's API.", "path", "method"),
		logged:             counter("errors_total", "Log entries of warning level and above.", "level"),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "gitlab_runner_version_info", Help: "This build.",
		ConstLabels: prometheus.Labels{
			"name": v.Name, "version": v.Version, "revision": v.Revision, "branch": v.Branch,
			"go_version": v.GOVersion, "built_at": v.BuiltAt, "os": v.OS, "architecture": v.Arch,
		},
	})
	info.Set(1)
	registry.MustRegister(info, current{m})
	return m
}

// watch makes the metrics that are read off the manager when somebody asks for them.
func (m *Metrics) watch(manager *Manager) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.manager = manager
}

func labelsOf(r *config.Runner) []string { return []string{r.ShortToken(), r.Name, r.SystemID} }

// ConfigurationLoaded counts a configuration that came into force.
func (m *Metrics) ConfigurationLoaded(*config.File) { m.configLoaded.Inc() }

// ConfigurationFailed counts a configuration that could not be loaded.
func (m *Metrics) ConfigurationFailed() { m.configFailed.Inc() }

func (m *Metrics) fed(r *config.Runner) { m.feeds.WithLabelValues(labelsOf(r)...).Inc() }

func (m *Metrics) feedFailed(r *config.Runner) { m.feedFailures.WithLabelValues(labelsOf(r)...).Inc() }

func (m *Metrics) unhealthy(r *config.Runner) { m.healthFailures.WithLabelValues(labelsOf(r)...).Inc() }

// The types of failures of processing an entry.
const (
	failureOther  = "other"
	failureNoFree = "no_free_executor"
	failureJob    = "job_failure"
)

func (m *Metrics) processingFailed(r *config.Runner, kind string) {
	m.processingFailures.WithLabelValues(append(labelsOf(r), kind)...).Inc()
}

func (m *Metrics) requestExceeded(r *config.Runner) {
	m.requestsExceeded.WithLabelValues(r.ShortToken(), r.SystemID).Inc()
}

func (m *Metrics) jobStarted(r *config.Runner, job *spec.Job) {
	m.slotOperations.WithLabelValues("started").Inc()
	m.jobsTotal.WithLabelValues(labelsOf(r)...).Inc()
	m.executionMode.WithLabelValues(modeOf(job), r.Executor).Inc()
	m.queueDuration.WithLabelValues(append(labelsOf(r), job.Info.ProjectJobsRunningText)...).Observe(job.Info.TimeInQueueSeconds)
	acceptable := r.Monitoring.AcceptableQueuing(time.Now(), job.Info.ProjectJobsRunningText)
	// The counter is there, at 0, before a job has waited too long.
	tooLong := m.queuedTooLong.WithLabelValues(labelsOf(r)...)
	if acceptable > 0 && job.Info.TimeInQueueSeconds > acceptable.Seconds() {
		tooLong.Inc()
	}
	if job.Info.QueueSize > 0 {
		m.queueSize.WithLabelValues(labelsOf(r)...).Set(float64(job.Info.QueueSize))
	}
	if job.Info.QueueDepth > 0 {
		m.queueDepth.WithLabelValues(labelsOf(r)...).Set(float64(job.Info.QueueDepth))
	}
}

func (m *Metrics) jobEnded(r *config.Runner, job *spec.Job, result common.Result) {
	m.slotOperations.WithLabelValues("stopped").Inc()
	m.jobDuration.WithLabelValues(append(labelsOf(r), modeOf(job))...).Observe(result.Duration.Seconds())
	for _, stage := range result.Stages {
		m.stageDuration.WithLabelValues(append(labelsOf(r), stage.Name)...).Observe(stage.Duration.Seconds())
	}
	switch result.Inputs {
	case "":
	case common.InputsInterpolated:
		m.interpolations.Inc()
	default:
		m.inputFailures.WithLabelValues(string(result.Inputs)).Inc()
	}
	if result.State == common.Success {
		return
	}
	m.failedJobs.WithLabelValues(r.ShortToken(), r.Name, string(result.Reason), modeOf(job)).Inc()
	m.processingFailed(r, failureJob)
}

func modeOf(job *spec.Job) string {
	if job.Run != "" {
		return "steps"
	}
	return "traditional"
}

// RequestDone implements network.Recorder.
func (m *Metrics) RequestDone(s network.RequestSample) {
	m.apiStatuses.WithLabelValues(s.Runner, s.SystemID, s.Endpoint, fmt.Sprint(s.Status), s.Method).Inc()
	class := "-1"
	if s.Status > 0 {
		class = fmt.Sprintf("%dxx", s.Status/100)
	}
	m.apiDuration.WithLabelValues(s.Runner, s.SystemID, s.Endpoint, class, s.Method).Observe(s.Duration.Seconds())
}

// RequestAttempts implements network.Recorder.
func (m *Metrics) RequestAttempts(method, path string, attempts int) {
	m.apiAttempts.WithLabelValues(path, method).Add(float64(attempts))
}

// Levels implements logrus.Hook: warnings and what is worse are counted.
func (m *Metrics) Levels() []logrus.Level {
	return []logrus.Level{logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel, logrus.WarnLevel}
}

// Fire implements logrus.Hook.
func (m *Metrics) Fire(entry *logrus.Entry) error {
	m.logged.WithLabelValues(entry.Level.String()).Inc()
	return nil
}

var (
	descConcurrent = prometheus.NewDesc("gitlab_runner_concurrent", "The concurrent setting.", nil, nil)
	descWorkers    = prometheus.NewDesc("gitlab_runner_worker_slots_number", "Worker slots.", nil, nil)
	descState      = prometheus.NewDesc("gitlab_runner_process_state_info", "State of the process.", []string{"state"}, nil)
	descLimit      = prometheus.NewDesc("gitlab_runner_limit", "The limit setting of an entry.", []string{"runner", "runner_name", "system_id"}, nil)
	descJobs       = prometheus.NewDesc("gitlab_runner_jobs", "Jobs under way.", []string{"runner", "runner_name", "system_id", "state", "stage", "executor_stage"}, nil)
	descInFlight   = prometheus.NewDesc("gitlab_runner_request_concurrency", "Job requests in flight.", []string{"runner", "system_id"}, nil)
	descHard       = prometheus.NewDesc("gitlab_runner_request_concurrency_hard_limit", "The request_concurrency setting.", []string{"runner", "system_id"}, nil)
	descAdaptive   = prometheus.NewDesc("gitlab_runner_request_concurrency_adaptive_limit", "The adaptive limit of job requests.", []string{"runner", "system_id"}, nil)
	descUsed       = prometheus.NewDesc("gitlab_runner_request_concurrency_used_limit", "The limit of job requests in force.", []string{"runner", "system_id"}, nil)
)

// current collects what the manager knows at the moment of asking.
type current struct{ metrics *Metrics }

func (c current) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{descConcurrent, descWorkers, descState, descLimit, descJobs, descInFlight, descHard, descAdaptive, descUsed} {
		out <- desc
	}
}

func (c current) Collect(out chan<- prometheus.Metric) {
	c.metrics.mu.Lock()
	manager := c.metrics.manager
	c.metrics.mu.Unlock()
	if manager == nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	file := manager.Config()
	gauge(descConcurrent, float64(file.Concurrent))
	gauge(descWorkers, float64(manager.workers.limitNow()))
	gauge(descState, 1, string(manager.State()))
	seen := map[string]bool{}
	for _, runner := range file.Runners {
		short := runner.ShortToken()
		if seen[short+runner.Name] {
			continue
		}
		seen[short+runner.Name] = true
		gauge(descLimit, float64(runner.Limit), labelsOf(runner)...)
		gauge(descJobs, 0, append(labelsOf(runner), "idle", "idle", "idle")...)
		if seen[short] {
			continue
		}
		seen[short] = true
		counts := manager.requests.counts(runner)
		gauge(descInFlight, float64(counts.inFlight), short, runner.SystemID)
		gauge(descHard, float64(counts.hard), short, runner.SystemID)
		gauge(descAdaptive, counts.adaptive, short, runner.SystemID)
		gauge(descUsed, float64(counts.used), short, runner.SystemID)
	}
	type series struct{ runner, name, system, state, stage, executorStage string }
	jobs := map[series]int{}
	for _, job := range manager.Jobs() {
		jobs[series{job.Runner.ShortToken(), job.Runner.Name, job.Runner.SystemID, string(job.Status.State), job.Status.Stage, job.Status.ExecutorStage}]++
	}
	for s, n := range jobs {
		gauge(descJobs, float64(n), s.runner, s.name, s.system, s.state, s.stage, s.executorStage)
	}
}
