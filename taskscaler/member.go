package taskscaler

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
	"gitlab.com/gitlab-org/fleeting/taskscaler/storage"
)

// member connects an instance of the provisioner with its counterpart in the planner's state. The
// fields are owned by the scaler's goroutine unless said otherwise.
type member struct {
	// handle is safe for concurrent use.
	handle fleeting.Instance
	in     *fleet.Instance

	// stored is what the storage knew at the start; nil for an instance that was not restored. It is
	// not changed.
	stored *storage.State
	// info is how to connect, as last seen; it is written by the preparation and read for the storage.
	info atomic.Pointer[provider.ConnectInfo]
	// reported is why the instance was reported lost.
	reported error
	// life ends with the instance's usefulness; endLife ends it and may be called at any time.
	life    context.Context
	endLife context.CancelCauseFunc
}

func (m *member) id() string { return m.handle.ID() }

// connectInfo asks the group how to connect to the instance. For a restored instance, what the group
// leaves out or cannot tell comes from the storage. It is safe for concurrent use.
func (m *member) connectInfo(ctx context.Context) (provider.ConnectInfo, error) {
	info, err := m.handle.ConnectInfo(ctx)
	if m.stored == nil {
		return info, err
	}
	old := m.stored.ConnectInfo
	if err != nil {
		if ctx.Err() != nil || old.ID == "" {
			return info, err
		}
		return old, nil
	}
	info.OS = orElse(info.OS, old.OS)
	info.Arch = orElse(info.Arch, old.Arch)
	info.Protocol = orElse(info.Protocol, old.Protocol)
	info.ProtocolPort = orElse(info.ProtocolPort, old.ProtocolPort)
	info.Username = orElse(info.Username, old.Username)
	info.ExternalAddr = orElse(info.ExternalAddr, old.ExternalAddr)
	info.InternalAddr = orElse(info.InternalAddr, old.InternalAddr)
	if info.Password == "" && len(info.Key) == 0 {
		info.Password, info.Key = old.Password, old.Key
	}
	if len(info.HostKeys) == 0 {
		info.HostKeys = old.HostKeys
	}
	return info, nil
}

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// lossCause is the cause with which the contexts of the instance's acquisitions end.
func (m *member) lossCause(reason string) error {
	if m.reported != nil && !m.in.Gone() {
		return fmt.Errorf("%w: instance %q: %w", ErrInstanceUnexpectedlyRemoved, m.id(), m.reported)
	}
	return fmt.Errorf("%w: instance %q: %s", ErrInstanceUnexpectedlyRemoved, m.id(), reason)
}

// check tells whether the instance is fit for a task: by what the group knows of it and by the
// heartbeat function, if there is one.
func (m *member) check(ctx context.Context, heartbeat HeartbeatFunc) error {
	ctx, cancel := context.WithTimeoutCause(ctx, heartbeatTimeout, errHeartbeatTimeout)
	defer cancel()

	err := m.handle.Heartbeat(ctx)
	if errors.Is(err, fleeting.ErrPluginNotRunning) {
		// A plugin that is down knows nothing of the instance, for good or ill.
		err = nil
	}
	if err == nil && heartbeat != nil {
		var info provider.ConnectInfo
		info, err = m.connectInfo(ctx)
		switch {
		case err == nil:
			err = heartbeat(ctx, info)
		case errors.Is(err, fleeting.ErrPluginNotRunning):
			err = nil
		}
	}
	if err != nil && errors.Is(context.Cause(ctx), errHeartbeatTimeout) {
		return fmt.Errorf("%w: %w", errHeartbeatTimeout, err)
	}
	return err
}

var errHeartbeatTimeout = fmt.Errorf("health check took longer than %s", heartbeatTimeout)

// state is what the storage keeps about the instance.
func (m *member) state() storage.State {
	state := storage.State{
		ID:            m.id(),
		UsedCount:     m.in.Used(),
		RemovalReason: m.in.Removal(),
		IdleSince:     m.in.IdleSince(),
	}
	if info := m.info.Load(); info != nil {
		state.ConnectInfo = *info
	} else if m.stored != nil {
		state.ConnectInfo = m.stored.ConnectInfo
	}
	for _, t := range m.in.Tasks() {
		state.Acquisitions = append(state.Acquisitions, storage.Acquisition{Key: t.Key(), Slot: t.Slot(), Suspended: t.Suspended()})
	}
	return state
}

func memoryOf(state *storage.State) *fleet.Memory {
	if state == nil {
		return nil
	}
	memory := &fleet.Memory{Used: state.UsedCount, Removal: state.RemovalReason, IdleSince: state.IdleSince}
	for _, a := range state.Acquisitions {
		memory.Tasks = append(memory.Tasks, fleet.RememberedTask{Key: a.Key, Slot: a.Slot, Suspended: a.Suspended})
	}
	return memory
}

func originOf(cause fleeting.Cause) fleet.Origin {
	switch cause {
	case fleeting.CausePreexisted:
		return fleet.Preexisted
	case fleeting.CauseRequested:
		return fleet.Requested
	default:
		return fleet.Unexpected
	}
}
