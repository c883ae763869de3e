// Package images gets the images of a job onto an engine: which policy applies, with which credentials,
// how often it is tried, and what the user is told meanwhile.
//
// Identical pulls of different jobs on one machine happen once (Pulls). The docker executor imports it.
package images

import (
	"fmt"
	"slices"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// Policy says when an image is pulled.
type Policy string

// The policies.
const (
	Always       Policy = "always"
	IfNotPresent Policy = "if-not-present"
	Never        Policy = "never"
)

// Policies returns the policies to try for an image, in order: those that were asked for in the job,
// else in the configuration, as far as the configuration allows them.
func Policies(image string, asked []string, docker *config.Docker) ([]Policy, error) {
	configured, err := parse("pull_policy", docker.PullPolicy)
	if err != nil {
		return nil, err
	}
	allowed, err := parse("allowed_pull_policies", docker.AllowedPullPolicies)
	if err != nil {
		return nil, err
	}
	source := "Runner config"
	if configured == nil {
		configured, source = []Policy{Always}, "Runner config (default)"
	}
	if allowed == nil {
		allowed = configured
	}
	candidates := configured
	if len(asked) > 0 {
		if candidates, err = parse("pull_policy", asked); err != nil {
			return nil, err
		}
		source = "GitLab pipeline config"
	}
	var effective []Policy
	for _, candidate := range candidates {
		if slices.Contains(allowed, candidate) {
			effective = append(effective, candidate)
		}
	}
	if len(effective) == 0 {
		return nil, configurationError("invalid pull policy for image %q: pull_policy (%v) defined in %s is not one of the allowed_pull_policies (%v)",
			image, candidates, source, allowed)
	}
	return effective, nil
}

func parse(key string, texts []string) ([]Policy, error) {
	var policies []Policy
	for _, text := range texts {
		switch policy := Policy(strings.TrimSpace(text)); policy {
		case Always, IfNotPresent, Never:
			policies = append(policies, policy)
		case "":
		default:
			return nil, configurationError("unsupported %s config: %q", key, text)
		}
	}
	return policies, nil
}

func configurationError(format string, args ...any) error {
	return common.Fail(common.RunnerConfigurationError, fmt.Errorf(format, args...))
}
