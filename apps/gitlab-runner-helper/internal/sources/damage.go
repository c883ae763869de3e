package sources

import (
	"errors"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/git"
)

// damage are texts of git about something wrong with the repository on disk.
var damage = []string{
	"corrupt", "bad object", "object file", "not a valid object", "does not point to a valid object",
	"unable to read", "index file", "different hash", "mismatched algorithms", "bad config",
	".lock': File exists", "not a git repository", "cannot lock ref", "bad pack", "missing blob",
	"missing tree", "did not send all necessary objects", "Unable to find current revision in submodule path",
}

// elsewhere are texts of git about something that is not better with a new repository.
var elsewhere = []string{
	"unable to access '", "Could not resolve host", "could not read Username", "could not read Password",
	"Authentication failed", "Access denied", "Permission denied (", "Could not read from remote repository",
	"couldn't find remote ref", "reference is not a tree", "remote error:", "RPC failed", "early EOF",
	"remote end hung up", "No space left on device", "Disk quota exceeded", "Host key verification failed",
	"unknown option", "usage: git", "not found",
}

// laterError is a failure after the checkout: of the clean-up, of LFS or of submodules. Most of those have their
// reason in the project or on a server.
type laterError struct{ error }

func (e laterError) Unwrap() error { return e.error }

// cured says whether a failure of git is likely to be gone with a new repository. When in doubt it is:
// fetching more than needed is better than a failed job. After the checkout there has to be a sign of damage.
func cured(err error) bool {
	var failed *git.Error
	if !errors.As(err, &failed) {
		return false
	}
	contains := func(texts []string) bool {
		for _, text := range texts {
			if strings.Contains(failed.Messages, text) {
				return true
			}
		}
		return false
	}
	return contains(damage) || !contains(elsewhere) && !errors.As(err, &laterError{})
}
