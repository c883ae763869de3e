package cache_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

func TestLocalArchiveUnderItsFormerNameIsTaken(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	m.write("modules/a", "one")
	former := m.key("plain", nil)
	m.save(plan.CacheSave{Key: former, Paths: []string{"modules"}})

	key := m.key("hashed", nil)
	key.AlternateFile = former.File
	m.empty()
	require.Contains(t, m.restore(plan.CacheRestore{Keys: []plan.CacheKey{key}}), "Successfully extracted cache")
	require.Equal(t, "one", m.read("modules/a"))
	require.NoFileExists(t, former.File)
	require.FileExists(t, key.File)

	m.write("modules/a", "another")
	m.save(plan.CacheSave{Key: former, Paths: []string{"modules"}})
	m.empty()
	m.restore(plan.CacheRestore{Keys: []plan.CacheKey{key}})
	require.Equal(t, "one", m.read("modules/a"), "an archive that is there has precedence")
	require.FileExists(t, former.File)
}

func TestTheNewerOfTwoRemoteObjectsCounts(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		// The time of each object, zero if there is none; local is that of the local archive.
		object, alternate, local time.Time
		want                     string
		asked                    []string
	}{
		"only the object":             {object: day, want: "object", asked: []string{"GET", "HEAD"}},
		"only the alternate":          {alternate: day, want: "alternate", asked: []string{"GET", "GET", "HEAD"}},
		"neither":                     {asked: []string{"GET", "HEAD"}},
		"the object is newer":         {object: day.Add(time.Hour), alternate: day, want: "object", asked: []string{"GET", "HEAD"}},
		"the alternate is newer":      {object: day, alternate: day.Add(time.Hour), want: "alternate", asked: []string{"GET", "GET", "HEAD"}},
		"both are as old":             {object: day, alternate: day, want: "object", asked: []string{"GET", "HEAD"}},
		"the local archive is newest": {object: day, alternate: day, local: day.Add(time.Hour), want: "local", asked: []string{"GET", "HEAD"}},
		"the alternate is newer than the local archive": {
			object: day, local: day, alternate: day.Add(time.Hour), want: "alternate", asked: []string{"GET", "GET", "HEAD"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			put := func(name string, at time.Time) {
				if at.IsZero() {
					return
				}
				m := newMachine(t)
				m.write("modules/a", name)
				m.save(plan.CacheSave{Key: m.key(name, s.remote(name)), Paths: []string{"modules"}})
				o := s.objects["/bucket/"+name]
				o.stored = at
				s.objects["/bucket/"+name] = o
			}
			put("object", c.object)
			put("alternate", c.alternate)
			m := newMachine(t)
			key := m.key("object", s.remote("object"))
			key.AlternateRemote = s.remote("alternate")
			if !c.local.IsZero() {
				m.write("modules/a", "local")
				m.save(plan.CacheSave{Key: m.key("object", nil), Paths: []string{"modules"}})
				require.NoError(t, os.Chtimes(key.File, c.local, c.local))
				m.empty()
			}
			s.asked()
			said := m.restore(plan.CacheRestore{Keys: []plan.CacheKey{key}})
			require.ElementsMatch(t, c.asked, s.asked())
			if c.want == "" {
				require.Contains(t, said, "Failed to extract cache")
				return
			}
			require.Equal(t, c.want, m.read("modules/a"), said)
		})
	}
}
