package supply

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/simulator/machines"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errBroken = errors.New("the engine is broken")

// broken is machines of which none can be had.
type broken struct{ machines.Memory }

func (*broken) Launch(context.Context) (string, error) { return "", errBroken }

func (*broken) List(context.Context) ([]machines.Machine, error) { return nil, errBroken }

func opened(m Machines) *Supply {
	s := &Supply{}
	s.Open(m, func(instance string) string { return map[string]string{"one": "machine-00001"}[instance] })
	return s
}

func TestTheStockIsUsedUpByWhatIsLaunched(t *testing.T) {
	for name, c := range map[string]struct {
		stock int
		want  int
	}{
		"none":              {0, 0},
		"two":               {2, 2},
		"as many as wanted": {-1, 5},
	} {
		t.Run(name, func(t *testing.T) {
			s := opened(&machines.Memory{})
			s.SetStock(c.stock)
			got := 0
			for ; got < 5 && s.InStock(); got++ {
				_, err := s.Launch(t.Context())
				require.NoError(t, err)
			}
			require.Equal(t, c.want, got)
			there, err := s.Machines(t.Context())
			require.NoError(t, err)
			require.Len(t, there, c.want)
		})
	}
}

func TestALaunchThatFailsLeavesTheStockAlone(t *testing.T) {
	s := opened(&broken{})
	s.SetStock(1)
	_, err := s.Launch(t.Context())
	require.ErrorIs(t, err, errBroken)
	require.True(t, s.InStock())
	_, err = s.Machines(t.Context())
	require.ErrorIs(t, err, errBroken)
}

func TestNewInstancesAreMissingInAsManyListsAsAskedFor(t *testing.T) {
	s := opened(&machines.Memory{})
	early := s.Late()
	s.HideNew(2)
	late := s.Late()
	s.HideNew(0)
	require.False(t, early.Missing(false), "it was made before")
	require.True(t, late.Missing(true), "a list that was begun before")
	for range 2 {
		require.True(t, late.Missing(false))
		require.True(t, late.Missing(true), "another page of the same list")
	}
	require.False(t, late.Missing(false))
	require.False(t, late.Missing(true))
}

func TestAKillEndsTheMachineOfTheInstance(t *testing.T) {
	s := opened(&machines.Memory{})
	for range 2 {
		_, err := s.Launch(t.Context())
		require.NoError(t, err)
	}
	require.NoError(t, s.Kill(t.Context(), "nobody"))
	require.NoError(t, s.Kill(t.Context(), "one"))
	there, err := s.Machines(t.Context())
	require.NoError(t, err)
	require.NotContains(t, there, "machine-00001")
	require.Contains(t, there, "machine-00002")
}

func TestCallsAreCountedByTheirNames(t *testing.T) {
	s := opened(&machines.Memory{})
	s.Count("List")
	s.Count("List")
	require.Equal(t, 2, s.Calls("List"))
	require.Zero(t, s.Calls("Create"))
}

func TestFindReturnsTheFirstThatIsRight(t *testing.T) {
	one, two, four := 1, 2, 4
	even := func(n *int) bool { return *n%2 == 0 }
	require.Same(t, &two, Find([]*int{&one, &two, &four}, even))
	require.Nil(t, Find([]*int{&one}, even))
}
