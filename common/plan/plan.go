// Package plan is what the runner tells gitlab-runner-helper to do in one stage: a JSON document on
// the helper's standard input, so that no secret stands on a command line or in a container's
// configuration. The helper does what the plan says, writes what the user should see to its standard
// output and error, and ends with 0 or the exit code of what failed. Standard input stays open while
// the stage runs; its end before the stage's end means that the stage is to be given up.
//
// The build writes plans, the helper reads them; it imports nothing of ours. Both sides are always of
// the same version.
package plan

import "time"

// Plan is the work of one stage. At most one of the pointers from Sources on is set; the helper
// refuses a plan without work.
type Plan struct {
	// Stage is the stage's public name.
	Stage string `json:"stage"`

	// ProjectDir is where the project is, TmpDir where files of the job's own are kept beside it.
	// Both are absolute paths in the helper's container.
	ProjectDir string `json:"project_dir"`
	TmpDir     string `json:"tmp_dir"`

	// KeepUmask leaves the umask alone; otherwise it is 0, so that any user of the job's image may
	// write what the helper wrote.
	KeepUmask bool `json:"keep_umask,omitempty"`

	// Variables are those of the job, in the order of their export, values expanded. The helper
	// writes File ones to TmpDir/<key> before the work and exports that path.
	Variables []Variable `json:"variables,omitempty"`

	Sources           *Sources           `json:"sources,omitempty"`
	ClearWorktree     *ClearWorktree     `json:"clear_worktree,omitempty"`
	RestoreCaches     []CacheRestore     `json:"restore_caches,omitempty"`
	SaveCaches        []CacheSave        `json:"save_caches,omitempty"`
	DownloadArtifacts []ArtifactDownload `json:"download_artifacts,omitempty"`
	UploadArtifacts   []ArtifactUpload   `json:"upload_artifacts,omitempty"`
	Cleanup           *Cleanup           `json:"cleanup,omitempty"`

	// Server is the GitLab instance, for artifacts.
	Server Server `json:"server"`

	// TransferMeter is the time between two messages about a transfer that goes on, 0 for no messages.
	TransferMeter time.Duration `json:"transfer_meter,omitempty"`

	// Relay is where, on loopback, the helper offers a server that is at the other end of its standard
	// streams; empty without one. Standard input goes on as a stream of helpers/relay then, standard output
	// is its other direction, and all output for the user goes to standard error.
	Relay string `json:"relay,omitempty"`
}

// Variable is one variable of the job.
type Variable struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	File  bool   `json:"file,omitempty"`
}

// Server is how to reach GitLab from the helper.
type Server struct {
	URL string `json:"url"`
	// CAFile, CertFile and KeyFile are the names of file variables, empty if there are none.
	CAFile   string `json:"ca_file,omitempty"`
	CertFile string `json:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty"`
}

// Strategy is GIT_STRATEGY.
type Strategy string

// The strategies.
const (
	StrategyFetch Strategy = "fetch"
	StrategyClone Strategy = "clone"
	StrategyNone  Strategy = "none"
	StrategyEmpty Strategy = "empty"
)

// SubmoduleStrategy is GIT_SUBMODULE_STRATEGY.
type SubmoduleStrategy string

// The strategies for submodules.
const (
	SubmoduleNone      SubmoduleStrategy = "none"
	SubmoduleNormal    SubmoduleStrategy = "normal"
	SubmoduleRecursive SubmoduleStrategy = "recursive"
)

// Sources is the work of get_sources.
type Sources struct {
	Strategy Strategy `json:"strategy"`
	// RemoteURL has no credentials. RemoteURLWithCredentials is what git is made to use instead, by
	// a configuration outside the work tree.
	RemoteURL                string   `json:"remote_url,omitempty"`
	RemoteURLWithCredentials string   `json:"remote_url_with_credentials,omitempty"`
	InsteadOf                []Alias  `json:"instead_of,omitempty"`
	Refspecs                 []string `json:"refspecs,omitempty"`
	// Depth is that of the fetch, 0 for the whole history.
	Depth        int    `json:"depth,omitempty"`
	Sha          string `json:"sha,omitempty"`
	Ref          string `json:"ref,omitempty"`
	ObjectFormat string `json:"object_format,omitempty"`
	Checkout     bool   `json:"checkout,omitempty"`
	UserAgent    string `json:"user_agent,omitempty"`
	// CleanFlags of nil mean: do not clean.
	CleanFlags      []string `json:"clean_flags,omitempty"`
	FetchFlags      []string `json:"fetch_flags,omitempty"`
	CloneFlags      []string `json:"clone_flags,omitempty"`
	NativeClone     bool     `json:"native_clone,omitempty"`
	LFSSkipSmudge   bool     `json:"lfs_skip_smudge,omitempty"`
	SafeDirectory   bool     `json:"safe_directory,omitempty"`
	CleanGitConfig  bool     `json:"clean_git_config,omitempty"`
	BundleURIs      bool     `json:"bundle_uris,omitempty"`
	ProactiveAuth   bool     `json:"proactive_auth,omitempty"`
	CorrelationID   string   `json:"correlation_id,omitempty"`
	TokenlessURLs   bool     `json:"tokenless_urls,omitempty"`
	CredentialHosts []string `json:"credential_hosts,omitempty"`

	Submodules Submodules `json:"submodules"`

	// PreHooks and PostHooks are complete shell scripts, run in this order by the helper's shell.
	PreHooks  []string `json:"pre_hooks,omitempty"`
	PostHooks []string `json:"post_hooks,omitempty"`
}

// Alias makes git use Replacement where Original is the beginning of a URL.
type Alias struct {
	Replacement string `json:"replacement"`
	Original    string `json:"original"`
}

// Submodules is what to do about submodules.
type Submodules struct {
	Strategy    SubmoduleStrategy `json:"strategy"`
	Paths       []string          `json:"paths,omitempty"`
	Depth       int               `json:"depth,omitempty"`
	UpdateFlags []string          `json:"update_flags,omitempty"`
}

// ClearWorktree is the work between two attempts at get_sources.
type ClearWorktree struct{}

// CacheKey is one place to look for a cache.
type CacheKey struct {
	// Name is what the user sees.
	Name string `json:"name"`
	// File is the local archive, an absolute path.
	File string `json:"file"`
	// Remote is where the archive is kept beyond this machine, nil without a distributed cache.
	Remote *Remote `json:"remote,omitempty"`
	// AlternateFile and AlternateRemote are where the archive is if it was made under the other form of keys, hashed
	// or not. An alternate file takes the place of an archive that is not there; of two remote objects the newer
	// one counts.
	AlternateFile   string  `json:"alternate_file,omitempty"`
	AlternateRemote *Remote `json:"alternate_remote,omitempty"`
}

// Remote is a remote object, by signed URLs.
type Remote struct {
	URL     string              `json:"url,omitempty"`
	HeadURL string              `json:"head_url,omitempty"`
	Headers map[string][]string `json:"headers,omitempty"`
	// Limit is the size in bytes of the largest archive that one upload to URL takes, 0 if there is none.
	Limit int64 `json:"limit,omitempty"`
	// Parts is how a larger archive is uploaded. Without it a helper that needs it ends the stage with
	// ExitNeedsParts.
	Parts *Parts `json:"parts,omitempty"`
}

// ExitNeedsParts is the helper's exit code when an archive is too large for one upload.
const ExitNeedsParts = 90

// Parts is how an archive is uploaded in parts of Size bytes, the last of which may be smaller.
type Parts struct {
	Size int64 `json:"size"`
	// URLs are those of the parts, CompleteURL that of what makes them one object, in S3's protocol. Without
	// them the parts are blocks of Azure's protocol, by the object's own URL.
	URLs        []string `json:"urls,omitempty"`
	CompleteURL string   `json:"complete_url,omitempty"`
}

// CacheRestore restores one cache entry from the first of Keys that has an archive. Notice is set
// when there is only something to say.
type CacheRestore struct {
	Notice         string     `json:"notice,omitempty"`
	Warnings       []string   `json:"warnings,omitempty"`
	Keys           []CacheKey `json:"keys,omitempty"`
	TimeoutMinutes int        `json:"timeout_minutes,omitempty"`
	// Paths are removed when an extraction failed, if CleanFailed.
	Paths       []string `json:"paths,omitempty"`
	CleanFailed bool     `json:"clean_failed,omitempty"`
}

// CacheSave saves one cache entry. Notice is set when there is only something to say.
type CacheSave struct {
	Notice           string   `json:"notice,omitempty"`
	Warnings         []string `json:"warnings,omitempty"`
	Key              CacheKey `json:"key"`
	TimeoutMinutes   int      `json:"timeout_minutes,omitempty"`
	Paths            []string `json:"paths,omitempty"`
	Untracked        bool     `json:"untracked,omitempty"`
	Verbose          bool     `json:"verbose,omitempty"`
	MaxUploadBytes   int64    `json:"max_upload_bytes,omitempty"`
	CompressionLevel string   `json:"compression_level,omitempty"`
	// Format is zip or tarzstd.
	Format string `json:"format,omitempty"`
}

// ArtifactDownload fetches and unpacks the artifacts of one job. Token is that job's.
type ArtifactDownload struct {
	Name           string `json:"name"`
	JobID          int64  `json:"job_id"`
	Token          string `json:"token"`
	DirectDownload bool   `json:"direct_download,omitempty"`
}

// ArtifactUpload packs and sends one artifact. JobID and Token are those of this job. Name, Paths and
// Exclude are unexpanded: they are expanded with the variables of the stage.
type ArtifactUpload struct {
	JobID                        int64    `json:"job_id"`
	Token                        string   `json:"token"`
	Name                         string   `json:"name,omitempty"`
	Paths                        []string `json:"paths,omitempty"`
	Exclude                      []string `json:"exclude,omitempty"`
	Untracked                    bool     `json:"untracked,omitempty"`
	Verbose                      bool     `json:"verbose,omitempty"`
	ExpireIn                     string   `json:"expire_in,omitempty"`
	Type                         string   `json:"type,omitempty"`
	Format                       string   `json:"format,omitempty"`
	CompressionLevel             string   `json:"compression_level,omitempty"`
	TimeoutSeconds               int      `json:"timeout_seconds,omitempty"`
	ResponseHeaderTimeoutSeconds int      `json:"response_header_timeout_seconds,omitempty"`
	LogResponses                 bool     `json:"log_responses,omitempty"`
	// Provenance is what is told about the archive's origin in a file of its own; nil is nothing.
	Provenance *Provenance `json:"provenance,omitempty"`
}

// Provenance is where artifacts come from. Times are in UTC. Parameters are the names of the job's variables; their
// values are nobody's business.
type Provenance struct {
	RunnerID       int64     `json:"runner_id"`
	RunnerName     string    `json:"runner_name"`
	RunnerRevision string    `json:"runner_revision"`
	Executor       string    `json:"executor"`
	JobName        string    `json:"job_name"`
	RepoURL        string    `json:"repo_url"`
	RepoDigest     string    `json:"repo_digest"`
	StartedAt      time.Time `json:"started_at"`
	EndedAt        time.Time `json:"ended_at"`
	Parameters     []string  `json:"parameters,omitempty"`
}

// Cleanup is the work of cleanup_file_variables.
type Cleanup struct {
	Strategy       Strategy          `json:"strategy"`
	Submodules     SubmoduleStrategy `json:"submodules"`
	CleanGitConfig bool              `json:"clean_git_config,omitempty"`
	// Worktree also cleans or removes the project directory.
	Worktree        bool     `json:"worktree,omitempty"`
	CleanFlags      []string `json:"clean_flags,omitempty"`
	CredentialHosts []string `json:"credential_hosts,omitempty"`
}
