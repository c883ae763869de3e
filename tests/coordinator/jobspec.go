package coordinator

import "time"

// JobSpec describes a job to hand out. The zero value of every field is usable: it stands for what the field's comment
// says, or for "none".
type JobSpec struct {
	Name    string   // "job"
	Stage   string   // "test"
	Project string   // path of a repository added before; the only one there is
	Ref     string   // branch or tag; the repository's default branch
	Tags    []string // a runner must have all of them

	Image    Image
	Services []Service

	Variables    []Variable // after the predefined and the pipeline's ones; GIT_DEPTH sets the depth, 20 without
	BeforeScript []string   // put before Script, as GitLab does
	Script       []string
	AfterScript  []string

	Artifacts    []ArtifactSpec
	Cache        []CacheSpec
	Credentials  []Credential
	Dependencies []*Job // their artifacts are offered; the job waits for all of them to succeed, or to fail if allowed to

	AllowFailure bool          // its failure does not keep later stages from starting
	Timeout      time.Duration // one hour

	// Patch changes the payload just before it is sent, also again when the job is handed out another time. It is
	// called without any lock held and must not keep the map.
	Patch func(payload map[string]any)
}

// Image is the image of a job or, within a Service, of a service. Without a Name a job has no image.
type Image struct {
	Name       string
	Entrypoint []string // nil keeps the image's own
	PullPolicy []string
	User       string // executor_opts.docker.user
	Platform   string // executor_opts.docker.platform
}

// Service is a container that runs beside the job.
type Service struct {
	Image
	Alias     string
	Command   []string
	Variables []Variable
}

// Variable is one CI variable. All of them are public unless they are Masked or Private.
type Variable struct {
	Key, Value string
	Masked     bool
	Private    bool // not shown to services
	File       bool
	Raw        bool
}

// ArtifactSpec says what to upload; the zero values of When, Type and Format are left to the runner's defaults.
type ArtifactSpec struct {
	Name      string
	Paths     []string
	Exclude   []string
	Untracked bool
	When      string // on_success, on_failure, always
	ExpireIn  string
	Type      string
	Format    string
}

// CacheSpec is one cache of a job.
type CacheSpec struct {
	Key          string
	FallbackKeys []string
	Paths        []string
	Untracked    bool
	Policy       string
	When         string
}

// Credential opens a container registry.
type Credential struct {
	URL, Username, Password string
}
