package common

import (
	"fmt"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// header says who runs the job.
func (b *Build) header() {
	log := b.job.Log
	log.Print("Running with %s %s (%s)", b.options.Version.Name, b.options.Version.Version, b.options.Version.Revision)
	log.Print("  on %s %s, system ID: %s", b.job.Runner.Name, b.job.Runner.ShortToken(), b.job.Runner.SystemID)
	var changed []byte
	for _, flag := range b.job.Flags.Changed() {
		if changed != nil {
			changed = append(changed, ", "...)
		}
		changed = fmt.Appendf(changed, "%s:%t", flag.Name, flag.On)
	}
	if changed != nil {
		log.Print("  feature flags: %s", changed)
	}
	if policy := b.job.Spec.Policy; policy.ExecutionPolicyJob {
		log.Print("  policy: %s", policy.Name)
		log.Print("  %s", userVariables(policy))
	}
}

// userVariables says what becomes of the variables that users defined, in a job of a policy.
func userVariables(policy spec.PolicyOptions) string {
	text := "policy variables take precedence over user-defined variables"
	if allowed := policy.VariablesOverrideAllowed; allowed != nil {
		text = "user-defined variables are ignored"
		if *allowed {
			text = "user-defined variables are allowed"
		}
	}
	if len(policy.VariablesOverrideException) > 0 {
		text += ", except: " + strings.Join(policy.VariablesOverrideException, ", ")
	}
	return text
}
