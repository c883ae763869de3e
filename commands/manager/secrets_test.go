package manager

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// held is what is kept out of a log.
type held struct{ values []string }

func (h *held) Hold(values []string) func() {
	h.values = append(h.values, values...)
	return func() {
		h.values = slices.DeleteFunc(h.values, func(one string) bool { return slices.Contains(values, one) })
	}
}

type fetcher map[string]string

func (f fetcher) Fetch(_ context.Context, provider string, _ json.RawMessage) (string, error) {
	if value, there := f[provider]; there {
		return value, nil
	}
	return "", errors.New("no such secret")
}

func TestFetchedSecretsAreKeptOutOfTheLogUntilTheJobHasEnded(t *testing.T) {
	log := &held{}
	store := &secretStore{client: fetcher{"vault": "pw-of-vault", "azure_key_vault": "pw-of-azure"}, guard: log}
	for _, provider := range []string{"vault", "azure_key_vault"} {
		_, err := store.Fetch(t.Context(), provider, nil)
		require.NoError(t, err)
	}
	_, err := store.Fetch(t.Context(), "other", nil)
	require.Error(t, err)
	require.Equal(t, []string{"pw-of-vault", "pw-of-azure"}, log.values)
	store.release()
	require.Empty(t, log.values)
}
