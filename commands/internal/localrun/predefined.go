package localrun

import (
	"hash/fnv"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

const zeroSha = "0000000000000000000000000000000000000000"

// shortSha is how many characters of a commit stand in CI_COMMIT_SHORT_SHA.
const shortSha = 8

// Predefined are the variables that all jobs, and their rules, have.
func (t *Tree) Predefined(now time.Time) variables.List {
	before := t.Parent
	if before == "" {
		before = zeroSha
	}
	title, rest, _ := strings.Cut(t.Message, "\n")
	namespace, name := path.Split(t.Project)
	namespace = strings.TrimSuffix(namespace, "/")
	root, _, _ := strings.Cut(t.Project, "/")
	stamp := now.UTC().Format(time.RFC3339)
	pipelineID := strconv.FormatInt(now.Unix(), 10)
	var list variables.List
	add := func(key, value string) {
		list = append(list, spec.Variable{Key: key, Value: value, Public: true, Raw: true})
	}
	add("CI", "true")
	add("GITLAB_CI", "true")
	add("GITLAB_RUNNER_EXEC", "true")
	add("CI_SERVER_NAME", "GitLab")
	add("CI_CONFIG_PATH", ".gitlab-ci.yml")
	add("CI_PIPELINE_ID", pipelineID)
	add("CI_PIPELINE_IID", pipelineID)
	add("CI_PIPELINE_SOURCE", "push")
	add("CI_PIPELINE_CREATED_AT", stamp)
	add("CI_PROJECT_ID", strconv.FormatInt(t.projectID(), 10))
	add("CI_PROJECT_NAME", name)
	add("CI_PROJECT_TITLE", name)
	add("CI_PROJECT_PATH", t.Project)
	add("CI_PROJECT_PATH_SLUG", slug(t.Project))
	add("CI_PROJECT_NAMESPACE", namespace)
	add("CI_PROJECT_NAMESPACE_SLUG", slug(namespace))
	add("CI_PROJECT_ROOT_NAMESPACE", root)
	add("CI_PROJECT_VISIBILITY", "private")
	add("CI_DEFAULT_BRANCH", t.DefaultBranch)
	add("CI_DEFAULT_BRANCH_SLUG", slug(t.DefaultBranch))
	add("CI_COMMIT_SHA", t.Sha)
	add("CI_COMMIT_SHORT_SHA", t.Sha[:min(shortSha, len(t.Sha))])
	add("CI_COMMIT_BEFORE_SHA", before)
	add("CI_COMMIT_REF_NAME", t.Ref)
	add("CI_COMMIT_REF_SLUG", slug(t.Ref))
	add("CI_COMMIT_REF_PROTECTED", "false")
	add("CI_COMMIT_MESSAGE", t.Message)
	add("CI_COMMIT_TITLE", title)
	add("CI_COMMIT_DESCRIPTION", strings.TrimSpace(rest))
	add("CI_COMMIT_AUTHOR", t.Author)
	add("CI_COMMIT_TIMESTAMP", t.Time)
	if t.Tag {
		add("CI_COMMIT_TAG", t.Ref)
	} else {
		add("CI_COMMIT_BRANCH", t.Ref)
	}
	return list
}

// serverVariables are those that tell where the job's server is.
func (t *Tree) serverVariables(base *url.URL, token string) variables.List {
	repository := *base
	repository.Path = "/" + t.Project + ".git"
	repository.User = url.UserPassword(gitUser, token)
	show := func(key, value string) spec.Variable {
		return spec.Variable{Key: key, Value: value, Public: true, Raw: true}
	}
	return variables.List{
		show("CI_SERVER_URL", base.String()),
		show("CI_SERVER_HOST", base.Hostname()),
		show("CI_SERVER_PORT", base.Port()),
		show("CI_SERVER_PROTOCOL", base.Scheme),
		show("CI_API_V4_URL", base.String()+"/api/v4"),
		show("CI_PROJECT_URL", base.String()+"/"+t.Project),
		{Key: "CI_REPOSITORY_URL", Value: repository.String(), Masked: true, Raw: true},
		{Key: "CI_JOB_TOKEN", Value: token, Masked: true, Raw: true},
	}
}

const projectIDs = 1_000_000

// projectID is the same for the same working tree.
func (t *Tree) projectID() int64 {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(t.Dir))
	return int64(sum.Sum32()%projectIDs) + 1
}

var notSlug = regexp.MustCompile(`[^a-z0-9]+`)

const maxSlug = 63

// slug is a name as CI_COMMIT_REF_SLUG has it.
func slug(text string) string {
	text = notSlug.ReplaceAllString(strings.ToLower(text), "-")
	return strings.Trim(text[:min(len(text), maxSlug)], "-")
}
