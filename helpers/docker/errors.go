package docker

import (
	"errors"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errhttp"
	"github.com/docker/docker/client"
)

// IsNotFound says whether an engine does not know the object of a call.
func IsNotFound(err error) bool { return errdefs.IsNotFound(err) }

// IsConflict says whether an object is in a state that does not allow a call, such as a container that
// does not run, or whether its name is taken.
func IsConflict(err error) bool { return errdefs.IsConflict(err) || errdefs.IsAlreadyExists(err) }

// IsInvalid says whether an engine refused what a call asked for as wrong in itself.
func IsInvalid(err error) bool { return errdefs.IsInvalidArgument(err) }

// IsConnectionFailed says whether no engine could be reached.
func IsConnectionFailed(err error) bool {
	return client.IsErrConnectionFailed(err) || errors.Is(err, errClosed)
}

// classOf returns the class of errors for an HTTP status.
func classOf(status int) error {
	if class := errhttp.ToNative(status); class != nil {
		return class
	}
	if status >= http.StatusInternalServerError {
		return errdefs.ErrInternal
	}
	return errdefs.ErrInvalidArgument
}
