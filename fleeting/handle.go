package fleeting

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/internal/pool"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// instance is what callers see of a pool.Instance: the loop copies its changes over.
type instance struct {
	p           *Provisioner
	id          string
	cause       Cause
	requestedAt time.Time
	queued      bool // the subscribers do not know its last change yet; owned by the loop

	mu            sync.Mutex
	state         provider.State
	provisionedAt time.Time
	updatedAt     time.Time
	deletedAt     time.Time
	orphaned      bool          // the provisioner has ended
	changed       chan struct{} // closed at the next change; nil while nobody waits
}

var _ Instance = (*instance)(nil)

func newInstance(p *Provisioner, in *pool.Instance) *instance {
	i := &instance{p: p, id: in.ID, requestedAt: in.RequestedAt}
	switch in.Cause {
	case pool.Preexisted:
		i.cause = CausePreexisted
	case pool.Requested:
		i.cause = CauseRequested
	default:
		i.cause = CauseUnexpected
	}
	i.sync(in)
	return i
}

// sync takes over what the loop knows.
func (i *instance) sync(in *pool.Instance) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.state, i.provisionedAt, i.updatedAt = in.State, in.ProvisionedAt, in.UpdatedAt
	if i.deletedAt.IsZero() {
		i.deletedAt = in.DeletedAt
	}
	i.announce()
}

// orphan says that the instance will not change any more.
func (i *instance) orphan() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.orphaned = true
	i.announce()
}

// announce wakes those who wait for a change; i.mu must be held.
func (i *instance) announce() {
	if i.changed != nil {
		close(i.changed)
		i.changed = nil
	}
}

func (i *instance) ID() string   { return i.id }
func (i *instance) Cause() Cause { return i.cause }

func (i *instance) State() provider.State {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.state
}

func (i *instance) RequestedAt() time.Time { return i.requestedAt }

func (i *instance) ProvisionedAt() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.provisionedAt
}

func (i *instance) UpdatedAt() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.updatedAt
}

func (i *instance) DeletedAt() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.deletedAt
}

func (i *instance) ConnectInfo(ctx context.Context) (provider.ConnectInfo, error) {
	info, err := i.p.group.ConnectInfo(ctx, i.id)
	if err != nil {
		return info, fmt.Errorf("connection info of instance %q: %w", i.id, err)
	}
	return info, nil
}

func (i *instance) Heartbeat(ctx context.Context) error {
	if err := i.p.group.Heartbeat(ctx, i.id); err != nil {
		return fmt.Errorf("heartbeat of instance %q: %w", i.id, err)
	}
	return nil
}

// ended tells whether the instance can no longer become ready; i.mu must be held.
func (i *instance) ended() bool {
	switch i.state {
	case provider.StateDeleting, provider.StateDeleted, provider.StateTimeout:
		return true
	}
	return i.orphaned || !i.deletedAt.IsZero()
}

func (i *instance) ReadyWait(ctx context.Context) bool {
	for {
		i.mu.Lock()
		if i.ended() {
			i.mu.Unlock()
			return false
		}
		if i.state == provider.StateRunning {
			i.mu.Unlock()
			return true
		}
		if i.changed == nil {
			i.changed = make(chan struct{})
		}
		changed := i.changed
		i.mu.Unlock()

		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

func (i *instance) Delete() {
	i.mu.Lock()
	if i.orphaned || !i.deletedAt.IsZero() {
		i.mu.Unlock()
		return
	}
	i.deletedAt = time.Now()
	i.announce()
	i.mu.Unlock()
	i.p.send(command{kind: commandDelete, instance: i})
}

func (i *instance) Suspend() {
	if i.p.HasCapability(provider.CapabilitySuspendResume) {
		i.p.send(command{kind: commandSuspend, instance: i})
	}
}

func (i *instance) Resume(ctx context.Context) error {
	if !i.p.HasCapability(provider.CapabilitySuspendResume) {
		return fmt.Errorf("resume instance %q: %w", i.id, provider.ErrSuspendResumeNotSupported)
	}
	reply := make(chan error, 1)
	i.p.send(command{kind: commandResume, instance: i, reply: reply})
	select {
	case err := <-reply:
		if err != nil {
			return fmt.Errorf("resume instance %q: %w", i.id, err)
		}
		return nil
	case <-i.p.ended:
		return fmt.Errorf("resume instance %q: %w", i.id, errEnded)
	case <-ctx.Done():
		return fmt.Errorf("resume instance %q: %w", i.id, context.Cause(ctx))
	}
}

var (
	errEnded         = errors.New("the provisioner was shut down")
	errGone          = errors.New("the instance is gone or going to be deleted")
	errResumeFailed  = errors.New("the group failed to start it")
	errResumeRefused = errors.New("the group did not accept it")
	errSuspendStuck  = errors.New("its suspension does not end")
)
