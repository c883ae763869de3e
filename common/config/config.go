// Package config is config.toml: its types and defaults, and how it is loaded, checked and saved.
// The types carry the file's keys and nothing else; flags, help texts and API fields live with the
// commands and clients that use them. Anything may import this package; it imports only helpers.
package config

import "time"

// Config is the whole file.
type Config struct {
	Concurrent       int            `toml:"concurrent"`
	CheckInterval    int            `toml:"check_interval"`
	LogLevel         string         `toml:"log_level,omitempty"`
	LogFormat        string         `toml:"log_format,omitempty"`
	User             string         `toml:"user,omitempty"`
	SentryDSN        string         `toml:"sentry_dsn,omitempty"`
	ConnectionMaxAge *time.Duration `toml:"connection_max_age,omitempty"`
	ListenAddress    string         `toml:"listen_address,omitempty"`
	StatusRemote     bool           `toml:"status_remote,omitempty"`
	ShutdownTimeout  int            `toml:"shutdown_timeout"`

	Labels        map[string]string   `toml:"labels,omitempty"`
	SessionServer SessionServer       `toml:"session_server"`
	Experimental  *GlobalExperimental `toml:"experimental,omitempty"`
	Machine       map[string]any      `toml:"machine,omitempty"`
	Runners       []*Runner           `toml:"runners"`
}

// ShutdownLimit is how long a forceful shutdown may take.
func (c *Config) ShutdownLimit() time.Duration {
	if c.ShutdownTimeout > 0 {
		return time.Duration(c.ShutdownTimeout) * time.Second
	}
	return DefaultShutdownTimeout
}

// GlobalExperimental holds features that are off unless their table is there.
type GlobalExperimental struct {
	UsageLogger *UsageLogger `toml:"usage_logger,omitempty"`
}

// SessionServer configures the interactive web terminal. SessionTimeout is in seconds.
type SessionServer struct {
	ListenAddress    string `toml:"listen_address,omitempty"`
	AdvertiseAddress string `toml:"advertise_address,omitempty"`
	SessionTimeout   int    `toml:"session_timeout"`
}

// Runner is one [[runners]] entry.
type Runner struct {
	Name            string    `toml:"name"`
	URL             string    `toml:"url"`
	ID              int64     `toml:"id"`
	Token           string    `toml:"token"`
	TokenObtainedAt time.Time `toml:"token_obtained_at"`
	TokenExpiresAt  time.Time `toml:"token_expires_at"`
	TLSCAFile       string    `toml:"tls-ca-file,omitempty"`
	TLSCertFile     string    `toml:"tls-cert-file,omitempty"`
	TLSKeyFile      string    `toml:"tls-key-file,omitempty"`

	Limit                          int            `toml:"limit,omitzero"`
	RequestConcurrency             int            `toml:"request_concurrency,omitzero"`
	StrictCheckInterval            bool           `toml:"strict_check_interval,omitempty"`
	UnhealthyRequestsLimit         int            `toml:"unhealthy_requests_limit,omitzero"`
	UnhealthyInterval              *time.Duration `toml:"unhealthy_interval,omitempty"`
	JobStatusFinalUpdateRetryLimit int            `toml:"job_status_final_update_retry_limit,omitzero"`
	OutputLimit                    int            `toml:"output_limit,omitzero"`
	PrepareTimeout                 *time.Duration `toml:"prepare_timeout,omitempty"`
	GetSourcesTimeout              *time.Duration `toml:"get_sources_timeout,omitempty"`

	Executor              string   `toml:"executor"`
	Shell                 string   `toml:"shell,omitempty"`
	BuildsDir             string   `toml:"builds_dir,omitempty"`
	CacheDir              string   `toml:"cache_dir,omitempty"`
	CloneURL              string   `toml:"clone_url,omitempty"`
	Environment           []string `toml:"environment,omitempty"`
	ProxyExec             *bool    `toml:"proxy_exec,omitempty"`
	PreGetSourcesScript   string   `toml:"pre_get_sources_script,omitempty"`
	PostGetSourcesScript  string   `toml:"post_get_sources_script,omitempty"`
	PreBuildScript        string   `toml:"pre_build_script,omitempty"`
	PostBuildScript       string   `toml:"post_build_script,omitempty"`
	DebugTraceDisabled    bool     `toml:"debug_trace_disabled,omitempty"`
	SafeDirectoryCheckout *bool    `toml:"safe_directory_checkout,omitempty"`
	CleanGitConfig        *bool    `toml:"clean_git_config,omitempty"`
	StepRunnerImage       string   `toml:"step_runner_image,omitempty"`
	UseSlotCgroups        bool     `toml:"use_slot_cgroups,omitempty"`
	SlotCgroupTemplate    string   `toml:"slot_cgroup_template,omitempty"`

	FeatureFlags   map[string]bool     `toml:"feature_flags,omitempty"`
	CustomBuildDir *CustomBuildDir     `toml:"custom_build_dir,omitempty"`
	Artifact       *Artifact           `toml:"artifact,omitempty"`
	Labels         map[string]string   `toml:"labels,omitempty"`
	Monitoring     *Monitoring         `toml:"monitoring,omitempty"`
	Referees       map[string]any      `toml:"referees,omitempty"`
	Experimental   *RunnerExperimental `toml:"experimental,omitempty"`
	Instance       *Instance           `toml:"instance,omitempty"`
	Cache          *Cache              `toml:"cache,omitempty"`
	Docker         *Docker             `toml:"docker,omitempty"`
	Autoscaler     *Autoscaler         `toml:"autoscaler,omitempty"`
	Foreign        map[string]any      `toml:"-"` // tables of executors that are not ours, kept on save
	SystemID       string              `toml:"-"`
	LoadedAt       time.Time           `toml:"-"`

	// firstToken is that of an entry whose token was exchanged since, see Continue.
	firstToken string
}

// CustomBuildDir allows or forbids GIT_CLONE_PATH; nil selects the executor's default.
type CustomBuildDir struct {
	Enabled *bool `toml:"enabled,omitempty"`
}

// Artifact bounds the upload of artifacts.
type Artifact struct {
	UploadTimeout         *time.Duration `toml:"upload_timeout,omitempty"`
	ResponseHeaderTimeout *time.Duration `toml:"response_header_timeout,omitempty"`
}

// RunnerExperimental holds features of one entry that are off unless their table is there.
type RunnerExperimental struct {
	BootVerify *BootVerify `toml:"boot_verify,omitempty"`
}

// Instance configures the instance executor. The docker-autoscaler executor ignores it.
type Instance struct {
	AllowedImages     []string `toml:"allowed_images,omitempty"`
	UseCommonBuildDir bool     `toml:"use_common_build_dir,omitempty"`
}
