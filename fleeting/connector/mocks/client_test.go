package mocks_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/fleeting/fleeting/connector/mocks"
)

func TestClientMockDoesWhatItIsTold(t *testing.T) {
	var client connector.Client
	mc := mocks.NewClient(t)
	client = mc

	failure := errors.New("boom")
	mc.On("Close").Return(failure).Once()
	mc.EXPECT().Close().Return(nil).Once()
	mc.EXPECT().Run(mock.Anything, connector.RunOptions{Command: "true"}).Return(nil)
	mc.EXPECT().Dial("unix", "/socket").Return(nil, failure)
	mc.EXPECT().DialRun(mock.Anything, "cat").Return(nil, failure)

	require.ErrorIs(t, client.Close(), failure)
	require.NoError(t, client.Close())
	require.NoError(t, client.Run(context.Background(), connector.RunOptions{Command: "true"}))
	_, err := client.Dial("unix", "/socket")
	require.ErrorIs(t, err, failure)
	_, err = client.DialRun(context.Background(), "cat")
	require.ErrorIs(t, err, failure)
}
