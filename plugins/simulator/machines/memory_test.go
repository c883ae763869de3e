package machines

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMachinesInMemoryComeAndGoByTheirIDs(t *testing.T) {
	var m Memory
	first, err := m.Launch(t.Context())
	require.NoError(t, err)
	second, err := m.Launch(t.Context())
	require.NoError(t, err)
	require.NoError(t, m.Terminate(t.Context(), first))
	require.NoError(t, m.Terminate(t.Context(), first), "one that is gone already is no error")
	third, err := m.Launch(t.Context())
	require.NoError(t, err)
	require.NotContains(t, []string{first, second}, third, "ids are not used twice")

	list, err := m.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 2)
	for i, id := range []string{second, third} {
		require.Equal(t, id, list[i].ID)
		require.Equal(t, Running, list[i].State)
		require.NotEmpty(t, list[i].Address)
	}
	require.NotEqual(t, list[0].Address, list[1].Address)
}

func TestOnlyMachinesThatAreThereLetSomebodyIn(t *testing.T) {
	var m Memory
	id, err := m.Launch(t.Context())
	require.NoError(t, err)
	require.NoError(t, m.Authorize(t.Context(), id, "ci", "ssh-ed25519 AAAA\n"))
	require.NoError(t, m.SetPassword(t.Context(), id, "ci", "word"))
	require.Equal(t, []string{"ssh-ed25519 AAAA", "password word"}, m.Keys(id, "ci"))
	require.Empty(t, m.Keys(id, "root"))

	require.NoError(t, m.Terminate(t.Context(), id))
	require.ErrorContains(t, m.Authorize(t.Context(), id, "ci", "key"), id)
	require.ErrorContains(t, m.SetPassword(t.Context(), id, "ci", "word"), id)
}

func TestMachinesThatAreHeldBootAndGoOnlyWhenTheyAreLetGo(t *testing.T) {
	var m Memory
	old, err := m.Launch(t.Context())
	require.NoError(t, err)
	m.Hold(true)
	young, err := m.Launch(t.Context())
	require.NoError(t, err)
	require.NoError(t, m.Terminate(t.Context(), old))
	list, err := m.List(t.Context())
	require.NoError(t, err)
	require.Equal(t, []Machine{{ID: old, State: Deleting}, {ID: young, State: Creating}}, list)

	m.Hold(false)
	list, err = m.List(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, young, list[0].ID)
	require.Equal(t, Running, list[0].State)
	require.NotEmpty(t, list[0].Address)
}
