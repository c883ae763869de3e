package taskscaler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler/internal/fleet"
	"gitlab.com/gitlab-org/fleeting/taskscaler/metrics"
)

// count adds one to the number of operations on tasks.
func (s *scaler) count(operation string) { s.options.collector.AddTaskOperations(operation, 1) }

// Reserve implements Taskscaler.
func (s *scaler) Reserve(key string) error {
	if s.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrNoCapacity, ErrShutdown)
	}
	err := error(ErrShutdown)
	s.ask(func(now time.Time) { err = s.state.Reserve(key, now) })
	if err == nil {
		s.count(metrics.OperationReserve)
		return nil
	}
	if refusal := (*fleet.RefusalError)(nil); errors.As(err, &refusal) {
		switch refusal.Refusal {
		case fleet.RefusedPotential:
			s.count(metrics.OperationReservePotentialFailure)
		case fleet.RefusedAvailable:
			s.count(metrics.OperationReserveAvailableFailure)
		case fleet.RefusedThrottled:
			s.count(metrics.OperationReserveThrottled)
		}
	}
	return fmt.Errorf("%w: %w", ErrNoCapacity, err)
}

// Unreserve implements Taskscaler.
func (s *scaler) Unreserve(key string) {
	withdrawn := false
	// What may be removed now is removed at the next evaluation.
	s.ask(func(time.Time) { withdrawn = s.state.Unreserve(key) })
	if withdrawn {
		s.count(metrics.OperationUnreserve)
	}
}

// Acquire implements Taskscaler.
func (s *scaler) Acquire(ctx context.Context, key string) (Acquisition, error) {
	a, err := s.acquire(ctx, key)
	if err != nil {
		s.count(metrics.OperationAcquireFailure)
		return nil, err
	}
	s.count(metrics.OperationAcquire)
	return a, nil
}

func (s *scaler) acquire(ctx context.Context, key string) (*acquisition, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.ctx.Err() != nil {
		return nil, ErrShutdown
	}
	offers := make(chan offer, 1)
	err := error(ErrShutdown)
	s.do(func(time.Time) {
		if err = s.state.Enqueue(key); err == nil {
			s.offers[key] = offers
		}
	})
	if err != nil {
		return nil, fmt.Errorf("acquiring %q: %w", key, err)
	}

	for {
		select {
		case o := <-offers:
			a, err := s.accept(ctx, key, o)
			if a != nil || err != nil {
				return a, err
			}
		case <-ctx.Done():
			s.abandon(key)
			return nil, ctx.Err()
		case <-s.ctx.Done():
			s.abandon(key)
			return nil, ErrShutdown
		}
	}
}

// accept checks the health of the instance with an offered slot and takes the slot. Without an error
// it returns nil if the task waits again: the instance is not healthy or was lost.
func (s *scaler) accept(ctx context.Context, key string, o offer) (*acquisition, error) {
	unhealthy := o.on.check(ctx, s.options.heartbeat)
	if unhealthy != nil && ctx.Err() != nil {
		s.abandon(key)
		return nil, ctx.Err()
	}

	var a *acquisition
	var recorded <-chan struct{}
	ok := s.do(func(now time.Time) {
		if unhealthy != nil {
			s.noteHealth(o.on, unhealthy)
			s.state.Reject(key, o.placement, unhealthy, now)
			return
		}
		if !s.state.Confirm(key, o.placement) {
			return
		}
		delete(s.offers, key)
		a = newAcquisition(key, s.state.Task(key).Slot(), o.on)
		s.acquisitions[key] = a
		recorded = s.record(o.on)
	})
	if !ok {
		return nil, ErrShutdown
	}
	if a == nil {
		return nil, nil
	}

	// Should the process die now, the next one must know that the instance was used.
	select {
	case <-recorded:
		return a, nil
	case <-ctx.Done():
		s.Release(key)
		return nil, ctx.Err()
	}
}

func (s *scaler) abandon(key string) {
	s.do(func(time.Time) {
		s.state.Abandon(key)
		delete(s.offers, key)
	})
}

// Release implements Taskscaler.
func (s *scaler) Release(key string) {
	released := false
	s.do(func(now time.Time) {
		if released = s.state.Release(key, now); !released {
			return
		}
		a := s.acquisitions[key]
		delete(s.acquisitions, key)
		s.record(a.on)
	})
	if released {
		s.count(metrics.OperationRelease)
	}
}

// Get implements Taskscaler.
func (s *scaler) Get(key string) Acquisition {
	var found Acquisition
	s.ask(func(time.Time) {
		if a, ok := s.acquisitions[key]; ok {
			found = a
		}
	})
	return found
}

// Suspend implements Taskscaler.
func (s *scaler) Suspend(key string) error {
	if err := s.suspend(key); err != nil {
		return fmt.Errorf("suspending %q: %w", key, err)
	}
	s.count(metrics.OperationSuspend)
	return nil
}

func (s *scaler) suspend(key string) error {
	if !s.HasCapability(provider.CapabilitySuspendResume) {
		return provider.ErrSuspendResumeNotSupported
	}
	var recorded <-chan struct{}
	err := error(ErrShutdown)
	s.do(func(time.Time) {
		if err = s.state.Suspend(key); err != nil {
			return
		}
		a := s.acquisitions[key]
		a.stop(ErrAcquisitionSuspended)
		recorded = s.record(a.on)
	})
	if err != nil {
		return err
	}
	// The caller may rely on finding the task suspended after a restart.
	<-recorded
	return nil
}

// Resume implements Taskscaler.
func (s *scaler) Resume(ctx context.Context, key string) (Acquisition, error) {
	a, err := s.resume(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("resuming %q: %w", key, err)
	}
	s.count(metrics.OperationResume)
	return a, nil
}

func (s *scaler) resume(ctx context.Context, key string) (*acquisition, error) {
	if !s.HasCapability(provider.CapabilitySuspendResume) {
		return nil, provider.ErrSuspendResumeNotSupported
	}
	var a *acquisition
	err := error(ErrShutdown)
	s.do(func(time.Time) {
		a = s.acquisitions[key]
		if _, err = s.state.BeginResume(key); errors.Is(err, fleet.ErrTaskLost) {
			delete(s.acquisitions, key)
		}
	})
	if err != nil {
		return nil, asLoss(err)
	}

	resumed := a.on.handle.Resume(ctx)
	var recorded <-chan struct{}
	s.do(func(now time.Time) {
		err = s.state.EndResume(key, resumed == nil, a.on.handle.State(), now)
		switch {
		case err == nil:
			a.renew()
		case s.state.Task(key) == nil && s.acquisitions[key] == a:
			delete(s.acquisitions, key)
		}
		recorded = s.record(a.on)
	})
	switch {
	case err == nil && recorded != nil:
		<-recorded
		return a, nil
	case err == nil:
		return nil, ErrShutdown
	case resumed != nil:
		return nil, errors.Join(asLoss(err), resumed)
	default:
		return nil, asLoss(err)
	}
}

// asLoss makes the error about a lost instance recognisable to callers.
func asLoss(err error) error {
	if errors.Is(err, fleet.ErrTaskLost) {
		return fmt.Errorf("%w: %w", ErrInstanceUnexpectedlyRemoved, err)
	}
	return err
}
