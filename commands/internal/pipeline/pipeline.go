// Package pipeline reads a .gitlab-ci.yml and says which jobs it has and what each of them does. It is
// pure: what it needs to know of the world stands in its Options, and it runs nothing. What a file asks for
// and this package does not know is named, in Pipeline.Warnings if a job runs the same without it, and in
// Job.Unsupported if it does not.
//
// The exec command uses it. Where the format is from: GitLab's CI/CD YAML reference.
package pipeline

import (
	"fmt"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

// DefaultFile is where the pipeline of a project stands.
const DefaultFile = ".gitlab-ci.yml"

// Options say what a pipeline is compiled for.
type Options struct {
	// File is the path of the file, relative to the root of the project.
	File string
	// Read returns a file of the project. It must not leave the project. Compile bounds how often it is
	// called, Read how much it returns.
	Read func(path string) ([]byte, error)
	// Exists says whether a file of the project matches a pattern, for rules.
	Exists func(pattern string) (bool, error)
	// Predefined are the variables that rules see besides those of the file.
	Predefined variables.List
	// Overrides win over the variables of the file.
	Overrides variables.List
	// Ref and Tag are the name of the branch or tag, for only and except.
	Ref string
	Tag bool
}

// Pipeline is what a file says, for one commit.
type Pipeline struct {
	// Name is workflow:name, as it stands in the file.
	Name string
	// Stages are in the order in which they run.
	Stages []string
	// Jobs are those that belong to the pipeline, in the order of the file, each part of a parallel job by
	// itself.
	Jobs []*Job
	// Excluded are the names of the jobs that rules, only or except keep out.
	Excluded []string
	// Warnings name what has no effect, each once.
	Warnings []string
}

// When says after what a job runs.
type When string

// The values of When.
const (
	OnSuccess When = "on_success"
	OnFailure When = "on_failure"
	Always    When = "always"
	Manual    When = "manual"
	Delayed   When = "delayed"
	Never     When = "never"
)

// Job is one job of a pipeline.
type Job struct {
	Name string
	// Base is the name in the file: that of all parts of a parallel job.
	Base  string
	Stage string

	Image    *spec.Image
	Services []spec.Image
	// Variables are the file's, the job's and those of the part, later ones win.
	Variables variables.List
	Steps     []spec.Step
	Hooks     []spec.Hook
	Artifacts []spec.Artifact
	Cache     []spec.Cache

	When         When
	AllowFailure bool
	// AllowCodes are the exit codes that are allowed, if AllowFailure does not allow all.
	AllowCodes []int
	// Retry is how often the job is tried again after a failure that RetryWhen and RetryCodes, if there are
	// any, name.
	Retry      int
	RetryWhen  []string
	RetryCodes []int
	// Timeout is 0 without a limit of the job's own.
	Timeout time.Duration

	// Needs are the jobs it waits for; Staged says that these are all jobs of the stages before.
	Needs  []Need
	Staged bool
	// Unsupported are the keys without which the job would not be what the file says.
	Unsupported []string

	// matrix are the values of a part, in the order of the file.
	matrix []spec.Variable
}

// Need is one job that another waits for.
type Need struct {
	Job *Job
	// Artifacts says that the artifacts are wanted.
	Artifacts bool
	// Order says that the job waits for it. Dependencies alone do not make it wait longer than its stage.
	Order bool
}

// Job returns the job with a name, or the jobs whose name in the file it is.
func (p *Pipeline) Job(name string) []*Job {
	var parts []*Job
	for _, job := range p.Jobs {
		if job.Name == name {
			return []*Job{job}
		}
		if job.Base == name {
			parts = append(parts, job)
		}
	}
	return parts
}

// Compile reads the file and everything it includes. Its errors name the file or the job, and the key.
func Compile(o Options) (*Pipeline, error) {
	root, err := loadAll(o)
	if err != nil {
		return nil, err
	}
	if err := resolveExtends(root); err != nil {
		return nil, err
	}
	if err := resolveReferences(root); err != nil {
		return nil, err
	}
	c := &compiler{options: o, root: root, told: map[string]bool{}, pipeline: &Pipeline{}}
	if err := c.compile(); err != nil {
		return nil, err
	}
	return c.pipeline, nil
}

// in puts the place before an error.
func in(place string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", place, err)
}
