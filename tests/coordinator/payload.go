package coordinator

import (
	"cmp"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	defaultDepth   = 20
	defaultTimeout = time.Hour
	serverVersion  = "19.4.0"
	zeroSHA        = "0000000000000000000000000000000000000000"
)

// FailureReasons are the reasons that jobs announce as accepted.
func FailureReasons() []string {
	return []string{
		"unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure", "runner_system_failure",
		"missing_dependency_failure", "runner_unsupported", "stale_schedule", "job_execution_timeout", "archived_failure",
		"unmet_prerequisites", "scheduler_failure", "data_integrity_failure", "image_pull_failure",
		"runner_configuration_error", "runner_external_dependency_failure", "runner_interrupted", "job_canceled",
	}
}

// offer is what a payload needs that changes from one handing out to the next, taken while c.mu is held.
type offer struct {
	job          *Job
	token        string
	runner       Runner
	waited       time.Duration
	queueSize    int
	dependencies []map[string]any
}

// payload builds the answer that hands the job out.
func (c *Coordinator) payload(o offer) map[string]any {
	job, spec, pipeline := o.job, o.job.spec, o.job.pipeline
	commit := pipeline.commit
	timeout := cmp.Or(spec.Timeout, defaultTimeout)
	variables := c.variables(o)

	steps := []map[string]any{{
		"name": "script", "script": append(append([]string{}, spec.BeforeScript...), spec.Script...),
		"timeout": int(timeout.Seconds()), "when": "on_success", "allow_failure": false,
	}}
	if len(spec.AfterScript) > 0 {
		steps = append(steps, map[string]any{
			"name": "after_script", "script": spec.AfterScript,
			"timeout": int(timeout.Seconds()), "when": "always", "allow_failure": true,
		})
	}
	var image any
	if spec.Image.Name != "" {
		image = spec.Image.payload()
	}
	services := []map[string]any{}
	for _, service := range spec.Services {
		entry := service.Image.payload()
		entry["alias"], entry["command"] = service.Alias, service.Command
		entry["variables"] = encodeVariables(service.Variables)
		services = append(services, entry)
	}
	payload := map[string]any{
		"id": job.id, "token": o.token, "allow_git_fetch": true,
		"job_info": map[string]any{
			"id": job.id, "name": spec.Name, "stage": spec.Stage, "pipeline_id": pipeline.id,
			"project_id": pipeline.projectID, "project_name": lastSegment(pipeline.project), "project_full_path": pipeline.project,
			"namespace_id": 3, "root_namespace_id": 3, "organization_id": 1, "instance_id": "stand-in", "instance_uuid": c.epoch,
			"user_id": 11, "time_in_queue_seconds": o.waited.Seconds(),
			"project_jobs_running_on_instance_runners_count": "+Inf", "queue_size": o.queueSize, "queue_depth": 1,
		},
		"git_info": map[string]any{
			"repo_url": c.repositoryURL(pipeline.project, o.token), "repo_object_format": "sha1",
			"ref": pipeline.ref, "ref_type": commit.refType, "sha": commit.sha, "before_sha": commit.parent,
			"refspecs": pipeline.refspecs(depth(variables)), "depth": depth(variables), "protected": true,
		},
		"runner_info":  map[string]any{"timeout": int(timeout.Seconds()), "uuid": c.epoch, "runner_session_url": nil},
		"inputs":       []any{},
		"variables":    encodeVariables(variables),
		"steps":        steps,
		"hooks":        []any{},
		"image":        image,
		"services":     services,
		"artifacts":    encodeArtifacts(spec.Artifacts),
		"cache":        encodeCaches(spec.Cache),
		"credentials":  encodeCredentials(spec.Credentials),
		"dependencies": o.dependencies,
		"features": map[string]any{
			"trace_sections": true, "token_mask_prefixes": []string{"glpat-"}, "failure_reasons": FailureReasons(),
		},
		"secrets":        map[string]any{},
		"policy_options": map[string]any{"execution_policy_job": false, "policy_name": ""},
		// A runner has to read past what it does not know.
		"a_field_of_the_future": map[string]any{"nested": []any{nil, true}},
	}
	if spec.Patch != nil {
		spec.Patch(payload)
	}
	return payload
}

func (i Image) payload() map[string]any {
	docker := map[string]any{}
	if i.User != "" {
		docker["user"] = i.User
	}
	if i.Platform != "" {
		docker["platform"] = i.Platform
	}
	options := map[string]any{}
	if len(docker) > 0 {
		options["docker"] = docker
	}
	return map[string]any{
		"name": i.Name, "entrypoint": i.Entrypoint, "pull_policy": i.PullPolicy, "executor_opts": options, "ports": []any{},
	}
}

func encodeVariables(variables []Variable) []map[string]any {
	encoded := []map[string]any{}
	for _, v := range variables {
		entry := map[string]any{
			"key": v.Key, "value": v.Value, "public": !v.Masked && !v.Private, "masked": v.Masked, "file": v.File, "raw": v.Raw,
		}
		if v.Value == "" {
			entry["value"] = nil
		}
		encoded = append(encoded, entry)
	}
	return encoded
}

// encodeArtifacts leaves zero values out, as an old server does, so that a runner has to cope without them.
func encodeArtifacts(specs []ArtifactSpec) any {
	if len(specs) == 0 {
		return nil
	}
	var encoded []map[string]any
	for _, spec := range specs {
		entry := map[string]any{"paths": spec.Paths}
		setText(entry, "name", spec.Name)
		setText(entry, "when", spec.When)
		setText(entry, "expire_in", spec.ExpireIn)
		setText(entry, "artifact_type", spec.Type)
		setText(entry, "artifact_format", spec.Format)
		if spec.Exclude != nil {
			entry["exclude"] = spec.Exclude
		}
		if spec.Untracked {
			entry["untracked"] = true
		}
		encoded = append(encoded, entry)
	}
	return encoded
}

func encodeCaches(specs []CacheSpec) any {
	if len(specs) == 0 {
		return nil
	}
	var encoded []map[string]any
	for _, spec := range specs {
		entry := map[string]any{"key": spec.Key, "paths": spec.Paths}
		setText(entry, "policy", spec.Policy)
		setText(entry, "when", spec.When)
		if spec.FallbackKeys != nil {
			entry["fallback_keys"] = spec.FallbackKeys
		}
		if spec.Untracked {
			entry["untracked"] = true
		}
		encoded = append(encoded, entry)
	}
	return encoded
}

func encodeCredentials(credentials []Credential) []map[string]any {
	encoded := []map[string]any{}
	for _, credential := range credentials {
		encoded = append(encoded, map[string]any{
			"type": "registry", "url": credential.URL, "username": credential.Username, "password": credential.Password,
		})
	}
	return encoded
}

func setText(entry map[string]any, key, value string) {
	if value != "" {
		entry[key] = value
	}
}

// variables lists the predefined variables, then the pipeline's, then the job's.
func (c *Coordinator) variables(o offer) []Variable {
	job, spec, pipeline := o.job, o.job.spec, o.job.pipeline
	commit := pipeline.commit
	projectURL := c.url + "/" + pipeline.project
	id, pipelineID := strconv.FormatInt(job.id, 10), strconv.FormatInt(pipeline.id, 10)
	namespace, _ := cutLast(pipeline.project)
	root, _, _ := strings.Cut(pipeline.project, "/")
	protocol, host, port := splitURL(c.url)

	list := []Variable{
		{Key: "CI_PIPELINE_ID", Value: pipelineID},
		{Key: "CI_PIPELINE_URL", Value: projectURL + "/-/pipelines/" + pipelineID},
		{Key: "CI_JOB_ID", Value: id},
		{Key: "CI_JOB_URL", Value: projectURL + "/-/jobs/" + id},
		{Key: "CI_JOB_TOKEN", Value: o.token, Masked: true},
		{Key: "CI_JOB_STARTED_AT", Value: time.Now().UTC().Format(time.RFC3339)},
		{Key: "CI_REGISTRY_USER", Value: gitUser},
		{Key: "CI_REGISTRY_PASSWORD", Value: o.token, Masked: true},
		{Key: "CI_REPOSITORY_URL", Value: c.repositoryURL(pipeline.project, o.token), Private: true},
		{Key: "CI_DEPENDENCY_PROXY_USER", Value: gitUser},
		{Key: "CI_DEPENDENCY_PROXY_PASSWORD", Value: o.token, Masked: true},
		{Key: "CI_JOB_NAME", Value: spec.Name, Raw: true},
		{Key: "CI_JOB_NAME_SLUG", Value: slug(spec.Name)},
		{Key: "CI_JOB_STAGE", Value: spec.Stage},
		{Key: "CI_JOB_TIMEOUT", Value: strconv.Itoa(int(cmp.Or(spec.Timeout, defaultTimeout).Seconds()))},
		{Key: "CI_NODE_TOTAL", Value: "1"},
		{Key: "CI", Value: "true"},
		{Key: "GITLAB_CI", Value: "true"},
		{Key: "CI_SERVER", Value: "yes"},
		{Key: "CI_SERVER_NAME", Value: "GitLab"},
		{Key: "CI_SERVER_URL", Value: c.url},
		{Key: "CI_SERVER_HOST", Value: host},
		{Key: "CI_SERVER_PORT", Value: port},
		{Key: "CI_SERVER_PROTOCOL", Value: protocol},
		{Key: "CI_SERVER_VERSION", Value: serverVersion},
		{Key: "CI_API_V4_URL", Value: c.url + "/api/v4"},
		{Key: "CI_PROJECT_ID", Value: strconv.FormatInt(pipeline.projectID, 10)},
		{Key: "CI_PROJECT_NAME", Value: lastSegment(pipeline.project)},
		{Key: "CI_PROJECT_TITLE", Value: lastSegment(pipeline.project)},
		{Key: "CI_PROJECT_PATH", Value: pipeline.project},
		{Key: "CI_PROJECT_PATH_SLUG", Value: slug(pipeline.project)},
		{Key: "CI_PROJECT_NAMESPACE", Value: namespace},
		{Key: "CI_PROJECT_ROOT_NAMESPACE", Value: root},
		{Key: "CI_PROJECT_URL", Value: projectURL},
		{Key: "CI_PROJECT_VISIBILITY", Value: "private"},
		{Key: "CI_DEFAULT_BRANCH", Value: commit.defaultBranch},
		{Key: "CI_CONFIG_PATH", Value: ".gitlab-ci.yml"},
		{Key: "CI_PIPELINE_IID", Value: pipelineID},
		{Key: "CI_PIPELINE_SOURCE", Value: "push"},
		{Key: "CI_COMMIT_SHA", Value: commit.sha},
		{Key: "CI_COMMIT_SHORT_SHA", Value: commit.sha[:8]},
		{Key: "CI_COMMIT_BEFORE_SHA", Value: commit.parent},
		{Key: "CI_COMMIT_REF_NAME", Value: pipeline.ref, Raw: true},
		{Key: "CI_COMMIT_REF_SLUG", Value: slug(pipeline.ref)},
		{Key: "CI_COMMIT_REF_PROTECTED", Value: "true"},
		{Key: "CI_COMMIT_MESSAGE", Value: commit.message, Raw: true},
		{Key: "CI_COMMIT_TITLE", Value: commit.title, Raw: true},
		{Key: "CI_COMMIT_AUTHOR", Value: commit.author, Raw: true},
		{Key: "CI_COMMIT_TIMESTAMP", Value: commit.time},
		{Key: "CI_RUNNER_ID", Value: strconv.FormatInt(o.runner.ID, 10)},
		{Key: "CI_RUNNER_DESCRIPTION", Value: o.runner.Description},
		{Key: "CI_RUNNER_TAGS", Value: `["` + strings.Join(o.runner.Tags, `", "`) + `"]`},
		{Key: "GITLAB_USER_ID", Value: "11"},
		{Key: "GITLAB_USER_LOGIN", Value: "tester"},
	}
	if commit.refType == refTypeTag {
		list = append(list, Variable{Key: "CI_COMMIT_TAG", Value: pipeline.ref, Raw: true})
	} else {
		list = append(list, Variable{Key: "CI_COMMIT_BRANCH", Value: pipeline.ref, Raw: true})
	}
	list = append(list, pipeline.variables...)
	return append(list, spec.Variables...)
}

// depth is the last GIT_DEPTH that is a number, as GitLab resolves it.
func depth(variables []Variable) int {
	result := defaultDepth
	for _, v := range variables {
		if number, err := strconv.Atoi(v.Value); v.Key == "GIT_DEPTH" && err == nil && number >= 0 {
			result = number
		}
	}
	return result
}

func (c *Coordinator) repositoryURL(project, token string) string {
	scheme, rest, _ := strings.Cut(c.url, "://")
	return scheme + "://" + gitUser + ":" + token + "@" + rest + "/" + project + ".git"
}

// splitURL takes a URL of our own making apart.
func splitURL(text string) (protocol, host, port string) {
	parsed, err := url.Parse(text)
	if err != nil {
		return "", "", ""
	}
	host, port, _ = net.SplitHostPort(parsed.Host)
	return parsed.Scheme, host, port
}

func cutLast(path string) (before, after string) {
	index := strings.LastIndex(path, "/")
	if index < 0 {
		return "", path
	}
	return path[:index], path[index+1:]
}

func lastSegment(path string) string {
	_, last := cutLast(path)
	return last
}

var notSlug = regexp.MustCompile(`[^a-z0-9]+`)

const maxSlug = 63

func slug(text string) string {
	text = strings.Trim(notSlug.ReplaceAllString(strings.ToLower(text), "-"), "-")
	return strings.TrimRight(text[:min(len(text), maxSlug)], "-")
}
