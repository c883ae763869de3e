package images

import (
	"context"
	"regexp"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common"
)

// Texts by which the error of a registry or of the network is told apart. The first class is worth
// another try. A bare "context deadline exceeded" is not in it: it may be the job's own.
var (
	unreachable = []string{
		"dial tcp", "connection refused", "no such host", "i/o timeout", "tls handshake",
		"client.timeout exceeded", "request canceled", "connection reset",
	}
	refused = []string{
		"not found", "manifest unknown", "pull access denied", "access to the resource is denied",
		"no basic auth credentials", "repository does not exist or may require", "unauthorized",
		"authentication required",
	}
)

// reasonOf classifies the failure of a pull.
func reasonOf(err error) common.FailureReason {
	text := strings.ToLower(err.Error())
	switch {
	case containsAny(text, unreachable):
		return common.RunnerExternalDependencyFailure
	case containsAny(text, refused):
		return common.RunnerConfigurationError
	default:
		return common.ImagePullFailure
	}
}

func transient(ctx context.Context, err error) bool {
	return ctx.Err() == nil && containsAny(strings.ToLower(err.Error()), unreachable)
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

var userInfo = regexp.MustCompile(`(://)[^/@\s"]+@`)

// redactedError hides user and password in the URLs of a message.
type redactedError struct{ error }

func (e redactedError) Error() string {
	return userInfo.ReplaceAllString(e.error.Error(), "${1}[redacted]@")
}

func (e redactedError) Unwrap() error { return e.error }
