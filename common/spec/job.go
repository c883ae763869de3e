// Package spec is the job as GitLab hands it out: the payload of POST /jobs/request, decoded
// tolerantly. It holds data and its decoding only; anything may import it, and it imports nothing of
// ours.
package spec

import (
	"encoding/json"
	"fmt"
)

// Job is the answer to a job request.
type Job struct {
	ID            int64             `json:"id"`
	Token         string            `json:"token"`
	AllowGitFetch bool              `json:"allow_git_fetch"`
	Info          JobInfo           `json:"job_info"`
	Git           GitInfo           `json:"git_info"`
	Runner        RunnerInfo        `json:"runner_info"`
	Variables     []Variable        `json:"variables"`
	Steps         []Step            `json:"steps"`
	Run           string            `json:"run"`
	Image         *Image            `json:"image"`
	Services      []Image           `json:"services"`
	Artifacts     []Artifact        `json:"artifacts"`
	Cache         []Cache           `json:"cache"`
	Credentials   []Credential      `json:"credentials"`
	Dependencies  []Dependency      `json:"dependencies"`
	Features      GitLabFeatures    `json:"features"`
	Secrets       map[string]Secret `json:"secrets"`
	Hooks         []Hook            `json:"hooks"`
	Policy        PolicyOptions     `json:"policy_options"`

	// Inputs are the job inputs; each is validated while decoding.
	Inputs []Input `json:"inputs"`
}

// JobInfo names the job and its project.
type JobInfo struct {
	Name                   string  `json:"name"`
	Stage                  string  `json:"stage"`
	PipelineID             int64   `json:"pipeline_id"`
	ProjectID              int64   `json:"project_id"`
	ProjectName            string  `json:"project_name"`
	ProjectFullPath        string  `json:"project_full_path"`
	NamespaceID            int64   `json:"namespace_id"`
	RootNamespaceID        int64   `json:"root_namespace_id"`
	OrganizationID         int64   `json:"organization_id"`
	InstanceID             string  `json:"instance_id"`
	InstanceUUID           string  `json:"instance_uuid"`
	UserID                 int64   `json:"user_id"`
	ScopedUserID           int64   `json:"scoped_user_id"`
	TimeInQueueSeconds     float64 `json:"time_in_queue_seconds"`
	ProjectJobsRunningText string  `json:"project_jobs_running_on_instance_runners_count"`
	QueueSize              int64   `json:"queue_size"`
	QueueDepth             int64   `json:"queue_depth"`
}

// GitInfo is what to check out. RepoURL carries credentials: never log it uncleaned.
type GitInfo struct {
	RepoURL      string   `json:"repo_url"`
	ObjectFormat string   `json:"repo_object_format"`
	Ref          string   `json:"ref"`
	RefType      string   `json:"ref_type"`
	Sha          string   `json:"sha"`
	BeforeSha    string   `json:"before_sha"`
	Refspecs     []string `json:"refspecs"`
	Depth        int      `json:"depth"`
	Protected    *bool    `json:"protected"`
}

// RunnerInfo is what the server knows of the runner. Timeout is in seconds; 0 or less selects the
// default of two hours.
type RunnerInfo struct {
	Timeout int    `json:"timeout"`
	UUID    string `json:"uuid"`
}

// Variable is one CI/CD variable. The last of several with the same key wins.
type Variable struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Public bool   `json:"public"`
	File   bool   `json:"file"`
	Masked bool   `json:"masked"`
	Raw    bool   `json:"raw"`

	// Internal marks variables of the runner itself. It never stands in a payload.
	Internal bool `json:"-"`
}

// Step is one user script. Name is "script", "after_script", "release" or another.
type Step struct {
	Name   string   `json:"name"`
	Script []string `json:"script"`
}

// The names of steps with a meaning of their own.
const (
	StepScript      = "script"
	StepAfterScript = "after_script"
)

// Image is the job's image or one service.
type Image struct {
	Name         string       `json:"name"`
	Alias        string       `json:"alias"`
	Command      []string     `json:"command"`
	Entrypoint   []string     `json:"entrypoint"`
	Variables    []Variable   `json:"variables"`
	PullPolicies []string     `json:"pull_policy"`
	ExecutorOpts ExecutorOpts `json:"executor_opts"`
}

// ExecutorOpts are options of an image for one kind of executor. Unsupported lists keys that no
// executor knows, as "docker.foo" or "foo"; a job that uses one must fail.
type ExecutorOpts struct {
	Docker      DockerOpts
	Unsupported []string
}

// DockerOpts are the options of an image for executors that speak to Docker.
type DockerOpts struct {
	Platform string
	User     string
}

// Artifact is one upload. Empty When means on_success, empty Format means zip.
type Artifact struct {
	Name      string   `json:"name"`
	Untracked bool     `json:"untracked"`
	Paths     []string `json:"paths"`
	Exclude   []string `json:"exclude"`
	When      When     `json:"when"`
	Type      string   `json:"artifact_type"`
	Format    string   `json:"artifact_format"`
	ExpireIn  string   `json:"expire_in"`
}

// Cache is one cache entry of the job.
type Cache struct {
	Key          string   `json:"key"`
	Untracked    bool     `json:"untracked"`
	Policy       string   `json:"policy"`
	Paths        []string `json:"paths"`
	When         When     `json:"when"`
	FallbackKeys []string `json:"fallback_keys"`
}

// When says after which outcome something is uploaded.
type When string

// The values of When; empty means WhenOnSuccess.
const (
	WhenOnSuccess When = "on_success"
	WhenOnFailure When = "on_failure"
	WhenAlways    When = "always"
)

// Matches says whether something is due after a job that succeeded or failed so far.
func (w When) Matches(success bool) bool {
	switch w {
	case WhenAlways:
		return true
	case WhenOnFailure:
		return !success
	default:
		return success
	}
}

// Credential is a login for a registry (Type "registry").
type Credential struct {
	Type     string `json:"type"`
	URL      string `json:"url"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// Dependency is a former job whose artifacts are wanted. Its own token authorises the download.
type Dependency struct {
	ID            int64         `json:"id"`
	Name          string        `json:"name"`
	Token         string        `json:"token"`
	ArtifactsFile ArtifactsFile `json:"artifacts_file"`
}

// ArtifactsFile is empty when there is nothing to download.
type ArtifactsFile struct {
	Filename string `json:"filename"`
	Size     int64  `json:"size"`
}

// GitLabFeatures is what the server understands.
type GitLabFeatures struct {
	TraceSections     bool     `json:"trace_sections"`
	TokenMaskPrefixes []string `json:"token_mask_prefixes"`
	FailureReasons    []string `json:"failure_reasons"`
}

// Hook is a script of the job that runs around another step.
type Hook struct {
	Name   string   `json:"name"`
	Script []string `json:"script"`
}

// The names of hooks.
const (
	HookPreGetSources  = "pre_get_sources_script"
	HookPostGetSources = "post_get_sources_script"
)

// PolicyOptions tell of a pipeline execution policy the job belongs to.
type PolicyOptions struct {
	ExecutionPolicyJob         bool     `json:"execution_policy_job"`
	Name                       string   `json:"policy_name"`
	VariablesOverrideAllowed   *bool    `json:"policy_variables_override_allowed"`
	VariablesOverrideException []string `json:"policy_variables_override_exceptions"`
}

// Secret is a secret to be fetched from a provider, undecoded: the key is the provider's name.
type Secret map[string]json.RawMessage

// Input is one job input.
type Input struct {
	Key   string     `json:"key"`
	Value InputValue `json:"value"`
}

// InputValue is the typed content of an input.
type InputValue struct {
	Type      string          `json:"type"`
	Content   json.RawMessage `json:"content"`
	Sensitive bool            `json:"sensitive"`
}

// Decode reads a job payload. It fails for JSON that is not a job, naming the field.
func Decode(data []byte) (*Job, error) {
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return nil, fmt.Errorf("decoding job payload: %w", err)
	}
	if job.ID == 0 || job.Token == "" {
		return nil, fmt.Errorf("decoding job payload: id or token is missing")
	}
	return &job, nil
}

// Hook returns the script of the named hook, nil if the job has none.
func (j *Job) Hook(name string) []string {
	for _, h := range j.Hooks {
		if h.Name == name {
			return h.Script
		}
	}
	return nil
}
