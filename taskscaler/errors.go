package taskscaler

import "errors"

var (
	// ErrNoCapacity is wrapped by the error of a refused Reserve; the text goes on with the reason.
	ErrNoCapacity = errors.New("no capacity")

	// ErrAcquisitionSuspended is the cause of an acquisition's contexts after Suspend.
	ErrAcquisitionSuspended = errors.New("acquisition suspended")

	// ErrInstanceUnexpectedlyRemoved is wrapped by the cause of an acquisition's contexts when its
	// instance disappeared, is being deleted by somebody else or was reported lost.
	ErrInstanceUnexpectedlyRemoved = errors.New("instance unexpectedly removed")

	// ErrUnknownInstance is wrapped by the error of a call that names an instance that there is not.
	ErrUnknownInstance = errors.New("there is no such instance")

	// ErrShutdown is wrapped by the errors of calls that Shutdown ended or that came after it.
	ErrShutdown = errors.New("taskscaler is shut down")
)
