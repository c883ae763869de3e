package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func TestEntriesAreToldApartByURLAndID(t *testing.T) {
	entry := config.Runner{URL: "https://gitlab.example.com", ID: 7, Token: "glrt-a"}
	for name, c := range map[string]struct {
		change func(*config.Runner)
		same   bool
	}{
		"another token":           {func(r *config.Runner) { r.Token = "glrt-b" }, true},
		"another id":              {func(r *config.Runner) { r.ID = 8 }, false},
		"another GitLab":          {func(r *config.Runner) { r.URL = "https://gitlab.example.org" }, false},
		"without an id":           {func(r *config.Runner) { r.ID = 0 }, false},
		"with the id as a token":  {func(r *config.Runner) { r.ID, r.Token = 0, "8" }, false},
		"with another name alone": {func(r *config.Runner) { r.Name = "other" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			other := entry
			c.change(&other)
			require.Equal(t, c.same, entry.Identity() == other.Identity())
		})
	}
}

func TestAnEntryWithoutAnIDStaysTheSameWhenItsTokenIsExchanged(t *testing.T) {
	fileOf := func(tokens ...string) *config.File {
		file := &config.File{}
		for _, token := range tokens {
			file.Runners = append(file.Runners, &config.Runner{Token: token})
		}
		return file
	}
	first := fileOf("glrt-a", "glrt-z")
	exchanged := func(former *config.File, token string) *config.File {
		file := fileOf(token, "glrt-z")
		file.Runners[0].Continue(former.Runners[0])
		file.Continue(former)
		return file
	}
	third := exchanged(exchanged(first, "glrt-b"), "glrt-c")
	loaded := fileOf("glrt-z", "glrt-c", "glrt-b")
	loaded.Continue(third)
	require.Equal(t, first.Runners[0].Identity(), third.Runners[0].Identity())
	require.Equal(t, first.Runners[0].Identity(), loaded.Runners[1].Identity(), "after the file was loaded again")
	require.Equal(t, first.Runners[1].Identity(), loaded.Runners[0].Identity())
	require.NotEqual(t, first.Runners[0].Identity(), loaded.Runners[2].Identity(), "a token that nobody has any more is another entry's")
}
