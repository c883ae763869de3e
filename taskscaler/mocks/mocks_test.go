package mocks_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/fleeting/taskscaler"
	"gitlab.com/gitlab-org/fleeting/taskscaler/mocks"
)

func TestTheTaskscalerMockMatchesTheCallsOfARunner(t *testing.T) {
	ctx := context.Background()
	ts := mocks.NewTaskscaler(t)
	acq := mocks.NewAcquisition(t)
	failure := errors.New("failure")
	schedule := taskscaler.Schedule{Periods: []string{"* * * * *"}, IdleCount: 1}

	ts.EXPECT().ConfigureSchedule([]taskscaler.Schedule{schedule}).Return(failure)
	ts.EXPECT().Reserve("key").Return(taskscaler.ErrNoCapacity)
	ts.EXPECT().Acquire(mock.Anything, "key").Return(acq, nil).Once()
	ts.EXPECT().Release("key").Return().Once()
	ts.EXPECT().Unreserve("key").Once()
	ts.EXPECT().Suspend("key").Return(nil)
	ts.EXPECT().Resume(mock.Anything, "key").Return(acq, nil)
	ts.EXPECT().HasCapability(mock.Anything).Return(true)
	ts.EXPECT().Shutdown(mock.Anything).Return()

	var scaler taskscaler.Taskscaler = ts
	require.ErrorIs(t, scaler.ConfigureSchedule(schedule), failure)
	require.ErrorIs(t, scaler.Reserve("key"), taskscaler.ErrNoCapacity)
	got, err := scaler.Acquire(ctx, "key")
	require.NoError(t, err)
	require.Same(t, acq, got)
	scaler.Release("key")
	scaler.Unreserve("key")
	require.NoError(t, scaler.Suspend("key"))
	got, err = scaler.Resume(ctx, "key")
	require.NoError(t, err)
	require.Same(t, acq, got)
	require.True(t, scaler.HasCapability(provider.CapabilitySuspendResume))
	scaler.Shutdown(ctx)
	require.NotSame(t, ts, mocks.NewTaskscaler(t))
}

func TestTheAcquisitionMockMatchesTheCallsOfARunner(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	acq := mocks.NewAcquisition(t)
	info := provider.ConnectInfo{ID: "i-1"}

	acq.EXPECT().WithContext(ctx).Return(ctx, cancel)
	acq.EXPECT().InstanceConnectInfo(mock.Anything).Return(info, nil)
	acq.EXPECT().Slot().Return(5)
	acq.EXPECT().InstanceID().Return("i-1").Maybe()
	acq.EXPECT().Key().Return("key")

	var acquisition taskscaler.Acquisition = acq
	derived, _ := acquisition.WithContext(ctx)
	require.Equal(t, ctx, derived)
	got, err := acquisition.InstanceConnectInfo(ctx)
	require.NoError(t, err)
	require.Equal(t, info, got)
	require.Equal(t, 5, acquisition.Slot())
	require.Equal(t, "key", acquisition.Key())
}
