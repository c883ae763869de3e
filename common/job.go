// Package common is the domain: the contracts that executors fulfil and the life of a build. A build
// is a sequence of stages with one owner; see Build.Run, which reads from top to bottom.
//
// Commands and executors import it. It imports its own sub-packages, shells and helpers, never an
// executor, a command or the network.
package common

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

// Job is a job under way: what GitLab sent and what the runner decided about it. The build writes it;
// executors read it.
type Job struct {
	Spec   *spec.Job
	Runner *config.Runner
	Flags  featureflags.Set
	// Log is where the executor tells the user what it does.
	Log *joblog.Log

	// ConcurrentID is unique among the running jobs of the runner entry, ConcurrentProjectID among
	// those of the entry and the project.
	ConcurrentID        int
	ConcurrentProjectID int

	// Deadline is when the job's time is over.
	Deadline time.Time

	Strategy plan.Strategy
	Settings Settings

	// Variables are the job's, expanded. They are complete, and the directories are decided, between
	// Executor.Connect and Executor.Prepare; before that Variables lack what depends on the machine.
	Variables  variables.List
	ProjectDir string
	TmpDir     string
	CacheDir   string
}

// ProjectUniqueName names what belongs to this runner, project and concurrent job, and is the
// hostname of containers: runner-<short token>-project-<id>-concurrent-<n>.
func (j *Job) ProjectUniqueName() string {
	return dnsName(fmt.Sprintf("runner-%s-project-%d-concurrent-%d",
		j.Runner.ShortToken(), j.Spec.Info.ProjectID, j.ConcurrentProjectID))
}

// ShortName names what belongs to this job alone, such as its network.
func (j *Job) ShortName() string {
	return dnsName(fmt.Sprintf("runner-%s-%d-%d-%d",
		j.Runner.ShortToken(), j.Spec.Info.ProjectID, j.ConcurrentProjectID, j.Spec.ID))
}

// SystemUniqueName names what is kept between jobs and must not be shared with other managers, such
// as cache volumes.
func (j *Job) SystemUniqueName() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s-%s-%d-%d",
		j.Runner.Token, j.Runner.SystemID, j.Spec.Info.ProjectID, j.ConcurrentProjectID))
	return "runner-" + hex.EncodeToString(sum[:16])
}

// URL is the job's page in GitLab, without credentials.
func (j *Job) URL() string {
	repo, err := url.Parse(j.Spec.Git.RepoURL)
	if err != nil || repo.Host == "" {
		return ""
	}
	repo.User = nil
	repo.Path = strings.TrimSuffix(repo.Path, ".git")
	return fmt.Sprintf("%s/-/jobs/%d", repo.String(), j.Spec.ID)
}

// ProtectedRef says whether the job runs on a protected ref, or uses a cache of protected refs.
func (j *Job) ProtectedRef() bool {
	for _, c := range j.Spec.Cache {
		if strings.HasSuffix(c.Key, "-protected") {
			return true
		}
	}
	if j.Spec.Git.Protected != nil {
		return *j.Spec.Git.Protected
	}
	return j.Variables.Bool("CI_COMMIT_REF_PROTECTED")
}

// slug is the path of the project below the builds directory.
func (j *Job) slug() string {
	fallback := fmt.Sprintf("project-%d", j.Spec.Info.ProjectID)
	repo, err := url.Parse(j.Spec.Git.RepoURL)
	if err != nil {
		return fallback
	}
	slug := strings.Trim(strings.TrimSuffix(repo.Path, ".git"), "/")
	if slug == "" || strings.Contains(slug, "..") || path.Clean(slug) != slug {
		return fallback
	}
	return slug
}

func dnsName(name string) string {
	const limit = 63
	var out strings.Builder
	for _, r := range strings.ToLower(name) {
		if r == '-' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			out.WriteRune(r)
		}
	}
	clean := strings.TrimLeft(out.String(), "-")
	if len(clean) > limit {
		clean = clean[:limit]
	}
	return clean
}

// DebugTrace says whether a job's log will show every command and so may show secrets. It can be asked
// before there is a Build.
func DebugTrace(runner *config.Runner, job *spec.Job) bool {
	return !runner.DebugTraceDisabled && received(runner, job).Bool("CI_DEBUG_TRACE")
}

// DynamicTraceInterval says whether the job's log is to be touched more rarely the rarer the server
// wants it. It can be asked before there is a Build.
func DynamicTraceInterval(runner *config.Runner, job *spec.Job) bool {
	flags, _ := featureflags.Resolve(runner.FeatureFlags, received(runner, job).Lookup)
	return flags.IsOn(featureflags.DynamicTraceForceSend)
}

// received are the variables of the runner entry and of the payload, as they came.
func received(runner *config.Runner, job *spec.Job) variables.List {
	return append(variables.Parse(runner.Environment), job.Variables...)
}
