package rigtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
)

// Busybox is the image of most jobs.
const Busybox = "busybox:latest"

// Autoscaled is a configuration of instances of the test's group that come at once and go with the manager. There
// is at most one unless c says otherwise.
func (s *Stage) Autoscaled(c rig.Config) rig.Config {
	c.Group = s.Group
	c.DeleteOnShutdown = true
	if c.Images == nil {
		c.Images = []string{Busybox}
	}
	c.MaxInstances = max(c.MaxInstances, 1)
	return c
}

// Launch writes a configuration and starts a manager on it.
func (s *Stage) Launch(c rig.Config, args ...string) {
	s.Helper()
	s.LaunchText(s.Text(c), args...)
}

// LaunchText is Launch for a configuration as a file.
func (s *Stage) LaunchText(text string, args ...string) {
	s.Helper()
	require.NoError(s, s.WriteConfig(text))
	s.Start(args...)
}

// Start starts a manager on the configuration that is there. Its end is the stage's to see to.
func (s *Stage) Start(args ...string) {
	s.Helper()
	var err error
	s.Manager, err = s.Rig.Start(args...)
	require.NoError(s, err)
	s.managers = append(s.managers, s.Manager)
}

// Stop ends the manager gracefully; that must succeed.
func (s *Stage) Stop() {
	s.Helper()
	require.NoError(s, s.Manager.Stop(s.Ctx))
	s.Manager = nil
}

// Reload writes a configuration, has the manager load it and waits until it is in force.
func (s *Stage) Reload(text string) {
	s.Helper()
	before := s.Logged(loaded)
	require.NoError(s, s.WriteConfig(text))
	require.NoError(s, s.Manager.Signal(syscall.SIGHUP))
	s.AwaitLoaded(before + 1)
}

// loaded is what the manager says when a configuration is in force.
const loaded = "Configuration loaded"

// AwaitLoaded waits until the manager has loaded configurations so many times, the first one included.
func (s *Stage) AwaitLoaded(times int) {
	s.Helper()
	number := 0
	_, err := s.Manager.Await(s.Ctx, func(e rig.Entry) bool {
		if e.Text("msg") == loaded {
			number++
		}
		return number == times
	})
	require.NoError(s, err)
}

// AwaitLog waits for an entry of the manager's log with all of the texts in its fields, of any level if that is
// empty.
func (s *Stage) AwaitLog(level string, texts ...string) rig.Entry {
	s.Helper()
	ctx, stop := context.WithTimeoutCause(s.Ctx, s.logLimit, fmt.Errorf("%s are over", s.logLimit))
	defer stop()
	entry, err := s.Manager.Await(ctx, func(e rig.Entry) bool {
		if level != "" && e.Text("level") != level {
			return false
		}
		whole := fmt.Sprint(e)
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(whole, text) })
	})
	require.NoError(s, err, "no %s entry with %q", level, texts)
	return entry
}

// Logged is how many entries of the manager's log have a message.
func (s *Stage) Logged(message string) int {
	entries, _ := s.Manager.Entries(0)
	number := 0
	for _, entry := range entries {
		if entry.Text("msg") == message {
			number++
		}
	}
	return number
}

// Listening waits for the manager to listen, and returns the address. It must have been told to listen on a port of
// its own choice.
func (s *Stage) Listening() string {
	s.Helper()
	return s.AwaitLog("info", "Metrics server listening").Text("address")
}

const (
	// getTimeout is within what a manager answers, on a busy machine.
	getTimeout = 30 * time.Second
	// getLimit bounds what is read of an answer, in bytes.
	getLimit = 16 << 20
)

// Get asks for what a manager shows at a path of its address, and returns it with the answer's headers. It leaves no
// connection behind, which the manager would count among its open files.
func (s *Stage) Get(address, path string) (string, http.Header) {
	s.Helper()
	ctx, stop := context.WithTimeout(s.Ctx, getTimeout)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	require.NoError(s, err)
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	require.NoError(s, err)
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, getLimit))
	require.NoError(s, err)
	require.Equal(s, http.StatusOK, answer.StatusCode, path)
	return string(data), answer.Header
}

// Plugins are the process ids of the plugins that the test's managers run, in ascending order.
func (s *Stage) Plugins() []int {
	s.Helper()
	processes, err := s.Processes()
	require.NoError(s, err)
	var found []int
	for pid, program := range processes {
		if strings.HasPrefix(program, s.PluginPath()) {
			found = append(found, pid)
		}
	}
	slices.Sort(found)
	return found
}
