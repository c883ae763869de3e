//go:build system

package system

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig/rigtest"
)

const (
	// patience bounds a test. It is no expectation: those have limits of their own.
	patience = 4 * time.Minute
	// soon is within what people call "within seconds".
	soon = 10 * time.Second
)

func TestMain(m *testing.M) { rigtest.Main(m) }

// stage is where a test of this package runs.
type stage struct{ *rigtest.Stage }

// newStage sets a test up; see rigtest for what is required at its end.
func newStage(t *testing.T, options coordinator.Config) *stage {
	t.Helper()
	return &stage{rigtest.New(t, rigtest.Options{Name: "system", Patience: patience, Coordinator: options})}
}

// The label of everything that is made for a job.
const jobLabel = "com.gitlab.gitlab-runner.job.id"

// objects are the containers, volumes and networks on an instance that have nothing to do with the
// engine itself, but for caches that are kept for later jobs. A filter restricts them.
func (s *stage) objects(instance string, filter ...string) []string {
	s.Helper()
	list := func(args []string, filters ...string) []string {
		args = append([]string{"docker"}, args...)
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		return s.InInstance(instance, args...)
	}
	volumes := []string{"volume", "ls", "--format", "volume {{.Name}}"}
	found := list([]string{"ps", "--all", "--format", "container {{.Names}}"}, filter...)
	found = append(found, list([]string{"network", "ls", "--format", "network {{.Name}}"}, append(slices.Clone(filter), "type=custom")...)...)
	kept := list(volumes, "label=com.gitlab.gitlab-runner.reusable=true")
	for _, volume := range list(volumes, filter...) {
		if !slices.Contains(kept, volume) {
			found = append(found, volume)
		}
	}
	return found
}

// file writes a file beside the configuration and returns its path.
func (s *stage) file(name, text string, mode os.FileMode) string {
	s.Helper()
	path := s.Dir + "/" + name
	require.NoError(s, os.WriteFile(path, []byte(text), mode))
	return path
}

// plain is a job log as a reader sees it.
func plain(record coordinator.Record) string { return coordinator.PlainLog(record.Trace) }
