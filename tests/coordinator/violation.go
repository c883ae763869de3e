package coordinator

import "fmt"

// Rule names one part of the protocol that the coordinator watches. Config.Tolerate takes rules out of the watch.
type Rule string

// The watched rules.
const (
	RuleHeaders       Rule = "headers"        // User-Agent, X-Request-Id, Accept and Content-Type are as agreed
	RuleBody          Rule = "body"           // request bodies are well formed and not oversized
	RuleIdentity      Rule = "identity"       // token header and body agree, the system id is well formed
	RuleInfo          Rule = "info"           // the info object carries every feature key
	RuleLastUpdate    Rule = "last-update"    // X-GitLab-Last-Update comes back in the next job request
	RuleCommit        Rule = "commit"         // state running is reported before any trace or result
	RuleCommitTimeout Rule = "commit-timeout" // a job handed out is committed in time
	RuleJobToken      Rule = "job-token"      // job requests carry the token of that job
	RuleTraceRange    Rule = "trace-range"    // trace chunks follow one another without hole or overlap
	RuleTraceContent  Rule = "trace-content"  // checksum, size and encoding of the whole trace are right
	RuleUpdate        Rule = "update"         // state updates are complete and consistent
	RuleStopped       Rule = "stopped"        // a client that was told to stop stops
	RuleRetryAfter    Rule = "retry-after"    // Retry-After is respected
	RuleArtifacts     Rule = "artifacts"      // uploads and downloads are as the job declared them
	RuleStoreAuth     Rule = "store-auth"     // no credential follows a redirect to the object store
	RuleGitToken      Rule = "git-token"      // git is spoken with the token of a running job of that project
)

// maxViolations bounds the list; a client that is broken for good would fill memory otherwise.
const maxViolations = 1000

// violate notes a breach of rule. jobID 0 stands for "no job". The caller holds c.mu.
func (c *Coordinator) violate(rule Rule, jobID int64, format string, args ...any) {
	if c.tolerated[rule] {
		return
	}
	if len(c.violations) >= maxViolations {
		return
	}
	text := fmt.Sprintf(format, args...)
	if jobID != 0 {
		text = fmt.Sprintf("job %d: %s", jobID, text)
	}
	text = string(rule) + ": " + text
	c.violations = append(c.violations, text)
	c.log.Warn("protocol violation", "violation", text)
}

// Violations lists every breach of the protocol so far, oldest first, each as "<rule>: [job <id>: ]<what was wrong>".
// At most 1000 are kept.
func (c *Coordinator) Violations() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.violations...)
}
