package fleeting

import (
	"context"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Cause is why an instance exists.
type Cause string

// The causes of instances.
const (
	// CausePreexisted: the first update found it.
	CausePreexisted Cause = "preexisted"
	// CauseRequested: it was seen while an accepted request was outstanding.
	CauseRequested Cause = "requested"
	// CauseUnexpected: it appeared later and nobody had asked for it.
	CauseUnexpected Cause = "unexpected"
)

// Instance is one instance of the group, from its discovery to its end. A provisioner hands out one
// and the same value for an instance every time, so it may be compared and used as a map key. An id
// that comes back after its end is another Instance. All methods are safe for concurrent use.
type Instance interface {
	// ID is the group's name of the instance.
	ID() string
	// State is the last known state.
	State() provider.State
	// Cause is why the instance exists.
	Cause() Cause

	// ConnectInfo asks the group how to connect to the instance. The answer may change when the
	// instance is suspended and resumed, so it is never cached.
	ConnectInfo(ctx context.Context) (provider.ConnectInfo, error)
	// Heartbeat asks the group whether the instance is healthy. Any error means that it is not, or
	// that nobody can tell.
	Heartbeat(ctx context.Context) error
	// ReadyWait waits until the instance is running and returns true, or false as soon as it can no
	// longer become so (deletion was asked for, it is gone, the provisioner was shut down) or ctx
	// ends.
	ReadyWait(ctx context.Context) bool

	// Delete asks for the deletion of the instance. It returns at once; calling it again, or on an
	// instance that is gone, has no effect.
	Delete()
	// Suspend asks for the instance to be stopped with its disks kept. It returns at once; it has no
	// effect without provider.CapabilitySuspendResume, when deletion was asked for, or on an
	// instance that is not running.
	Suspend()
	// Resume brings the instance back to running: it waits until a suspension under way has ended,
	// has the instance resumed and waits until it runs. On a running instance it returns at once. It
	// fails when the suspension or the resumption fails, when the instance is going to be deleted or
	// is gone, when the provisioner was shut down, or when ctx ends.
	Resume(ctx context.Context) error

	// RequestedAt is when the instance was asked for; the time of its discovery if it was not.
	RequestedAt() time.Time
	// ProvisionedAt is when the instance was first seen running; zero before.
	ProvisionedAt() time.Time
	// UpdatedAt is when the state last changed.
	UpdatedAt() time.Time
	// DeletedAt is when Delete was called, or when the instance was found gone without that; zero
	// before.
	DeletedAt() time.Time
}
