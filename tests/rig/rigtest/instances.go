package rigtest

import (
	"strings"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// Instance waits for an instance of the test's group to have started, and returns its name.
func (s *Stage) Instance() string {
	s.Helper()
	var name string
	require.NoError(s, s.Fleet.Await(s.Ctx, func(lives []rig.Life) bool {
		for _, life := range lives {
			if life.Destroyed.IsZero() && life.Address != "" {
				name = life.Name
			}
		}
		return name != ""
	}))
	return name
}

// InInstance runs a command in an instance and returns the lines it printed.
func (s *Stage) InInstance(instance string, command ...string) []string {
	s.Helper()
	out, err := rig.InInstance(instance, command...)
	require.NoError(s, err)
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}
