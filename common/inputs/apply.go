package inputs

import (
	"fmt"
	"slices"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// Apply returns a copy of the job in which templates are replaced, in the fields that may have some: the
// commands of script and after_script, images and services, artifacts, and caches. A job without inputs
// is returned as it is.
func Apply(job *spec.Job) (*spec.Job, error) {
	if len(job.Inputs) == 0 {
		return job, nil
	}
	set, err := New(job.Inputs)
	if err != nil {
		return nil, err
	}
	w := &walk{set: set}
	out := *job
	out.Steps = slices.Clone(job.Steps)
	for i := range out.Steps {
		if step := &out.Steps[i]; step.Name == spec.StepScript || step.Name == spec.StepAfterScript {
			w.list(step.Name, &step.Script)
		}
	}
	if job.Image != nil {
		image := *job.Image
		w.image("image", &image)
		out.Image = &image
	}
	out.Services = slices.Clone(job.Services)
	for i := range out.Services {
		w.image(fmt.Sprintf("services[%d]", i), &out.Services[i])
	}
	out.Artifacts = slices.Clone(job.Artifacts)
	for i := range out.Artifacts {
		w.artifact(fmt.Sprintf("artifacts[%d]", i), &out.Artifacts[i])
	}
	out.Cache = slices.Clone(job.Cache)
	for i := range out.Cache {
		w.cache(fmt.Sprintf("cache[%d]", i), &out.Cache[i])
	}
	if w.err != nil {
		return nil, w.err
	}
	return &out, nil
}

// walk visits fields until one of them fails.
type walk struct {
	set *Set
	err error
}

func (w *walk) text(where string, field *string) {
	if w.err != nil {
		return
	}
	expanded, err := w.set.Expand(*field)
	if err != nil {
		w.err = fmt.Errorf("%s: %w", where, err)
		return
	}
	*field = expanded
}

// list replaces the list by one of its own.
func (w *walk) list(where string, field *[]string) {
	*field = slices.Clone(*field)
	for i := range *field {
		w.text(fmt.Sprintf("%s[%d]", where, i), &(*field)[i])
	}
}

func (w *walk) image(where string, image *spec.Image) {
	w.text(where+".name", &image.Name)
	w.list(where+".command", &image.Command)
	w.list(where+".entrypoint", &image.Entrypoint)
	w.list(where+".pull_policy", &image.PullPolicies)
	w.text(where+".executor_opts.docker.platform", &image.ExecutorOpts.Docker.Platform)
	w.text(where+".executor_opts.docker.user", &image.ExecutorOpts.Docker.User)
}

func (w *walk) artifact(where string, artifact *spec.Artifact) {
	w.text(where+".name", &artifact.Name)
	w.list(where+".paths", &artifact.Paths)
	w.list(where+".exclude", &artifact.Exclude)
	w.text(where+".when", (*string)(&artifact.When))
	w.text(where+".expire_in", &artifact.ExpireIn)
}

func (w *walk) cache(where string, cache *spec.Cache) {
	w.text(where+".key", &cache.Key)
	w.text(where+".policy", &cache.Policy)
	w.list(where+".paths", &cache.Paths)
	w.text(where+".when", (*string)(&cache.When))
	w.list(where+".fallback_keys", &cache.FallbackKeys)
}
