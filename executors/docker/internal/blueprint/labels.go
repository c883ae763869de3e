package blueprint

import (
	"maps"
	"strconv"
	"time"
)

// LabelPrefix begins the keys of all labels.
const LabelPrefix = "com.gitlab.gitlab-runner"

// The labels by which objects are found again.
const (
	LabelManaged  = LabelPrefix + ".managed"
	LabelType     = LabelPrefix + ".type"
	LabelJob      = LabelPrefix + ".job.id"
	LabelTimeout  = LabelPrefix + ".job.timeout"
	LabelSystem   = LabelPrefix + ".runner.system_id"
	LabelRunner   = LabelPrefix + ".runner.id"
	LabelManager  = LabelPrefix + ".manager"
	LabelReusable = LabelPrefix + ".reusable"
)

// defaultJobTimeout is that of a job for which the server names none.
const defaultJobTimeout = 2 * time.Hour

// labelSet decides the labels that everything of the job carries.
func (c *compiler) labelSet() error {
	job := c.Job
	timeout := defaultJobTimeout
	if seconds := job.Spec.Runner.Timeout; seconds > 0 {
		timeout = time.Duration(seconds) * time.Second
	}
	pipeline := c.vars.Get("CI_PIPELINE_ID")
	if pipeline == "" {
		pipeline = strconv.FormatInt(job.Spec.Info.PipelineID, 10)
	}
	c.labels = map[string]string{
		LabelJob:                           strconv.FormatInt(job.Spec.ID, 10),
		LabelPrefix + ".job.url":           job.URL(),
		LabelPrefix + ".job.sha":           job.Spec.Git.Sha,
		LabelPrefix + ".job.before_sha":    job.Spec.Git.BeforeSha,
		LabelPrefix + ".job.ref":           job.Spec.Git.Ref,
		LabelTimeout:                       timeout.String(),
		LabelPrefix + ".project.id":        strconv.FormatInt(job.Spec.Info.ProjectID, 10),
		LabelPrefix + ".project.runner_id": strconv.Itoa(job.ConcurrentProjectID),
		LabelPrefix + ".pipeline.id":       pipeline,
		LabelRunner:                        job.Runner.ShortToken(),
		LabelPrefix + ".runner.local_id":   strconv.Itoa(job.ConcurrentID),
		LabelSystem:                        job.Runner.SystemID,
		LabelManager:                       c.Manager,
		LabelManaged:                       "true",
	}
	return nil
}

// containerLabels are the labels of a container of the job, with those of the configuration.
func (c *compiler) containerLabels(kind string, extra map[string]string) map[string]string {
	labels := c.typedLabels(kind, extra)
	for key, value := range c.docker.ContainerLabels {
		labels[key] = c.vars.ExpandValue(value)
	}
	return labels
}

func (c *compiler) typedLabels(kind string, extra map[string]string) map[string]string {
	labels := maps.Clone(c.labels)
	labels[LabelType] = kind
	for key, value := range extra {
		labels[LabelPrefix+"."+key] = value
	}
	return labels
}
