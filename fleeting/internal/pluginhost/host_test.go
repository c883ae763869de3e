//go:build unix

package pluginhost

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	dummy "gitlab.com/gitlab-org/fleeting/fleeting/plugin/fleeting-plugin-dummy"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// testLimits are short, so that nobody waits long for what is meant to go wrong.
func testLimits() Limits {
	limits := DefaultLimits()
	limits.Stop = time.Second
	limits.Ping = 500 * time.Millisecond
	limits.RestartMin = 50 * time.Millisecond
	limits.RestartMax = 400 * time.Millisecond
	return limits
}

func startDummy(t *testing.T, config *dummy.InstanceGroup, limits Limits) (*Host, *recordedLog) {
	t.Helper()
	var pluginConfig []byte
	if config != nil {
		var err error
		pluginConfig, err = json.Marshal(config)
		require.NoError(t, err)
	}
	log := newRecordedLog()
	h, err := Start(Config{Path: dummyBinary, PluginConfig: pluginConfig, Logger: log, Limits: limits})
	require.NoError(t, err)
	t.Cleanup(h.Stop)
	return h, log
}

func initDummy(t *testing.T, h *Host) {
	t.Helper()
	_, err := h.Group().Init(t.Context(), hclog.NewNullLogger(), provider.Settings{})
	require.NoError(t, err)
}

func pid(t *testing.T, h *Host) int {
	t.Helper()
	s, err := h.current()
	require.NoError(t, err)
	return s.process.pid
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestPluginWithoutConfigurationHandshakesAndStops(t *testing.T) {
	h, _ := startDummy(t, nil, testLimits())
	plugin := pid(t, h)
	require.True(t, alive(plugin))
	h.Stop()
	require.False(t, alive(plugin))
	h.Stop()
	_, err := h.Group().Increase(t.Context(), 1)
	require.ErrorContains(t, err, "was stopped")
}

func TestStartSaysWhyItFails(t *testing.T) {
	script := func(text string) string {
		path := t.TempDir() + "/plugin"
		require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755))
		return path
	}
	tests := map[string]struct{ path, want string }{
		"missing":                {t.TempDir() + "/none", "no such file"},
		"not on the path":        {"fleeting-plugin-that-does-not-exist", "executable file not found"},
		"not executable":         {t.TempDir(), "run plugin"},
		"exits with a complaint": {script("echo no licence >&2; exit 3"), "no licence"},
		"is not a plugin":        {script("echo hello; sleep 60"), "hello"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Start(Config{Path: tt.path, Logger: hclog.NewNullLogger(), Limits: testLimits()})
			require.ErrorContains(t, err, tt.want)
			require.ErrorContains(t, err, "run plugin")
		})
	}
}

func TestStartGivesUpOnASilentProcess(t *testing.T) {
	path := t.TempDir() + "/plugin"
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nsleep 60 & sleep 60"), 0o755))
	limits := testLimits()
	limits.Start = 200 * time.Millisecond
	begin := time.Now()
	_, err := Start(Config{Path: path, Logger: hclog.NewNullLogger(), Limits: limits})
	require.ErrorContains(t, err, "timeout")
	require.Less(t, time.Since(begin), 10*time.Second, "children of the process do not hold it up")
}

func TestKilledPluginIsRestartedAndInitialisedAgain(t *testing.T) {
	h, log := startDummy(t, &dummy.InstanceGroup{Name: "g", MaxSize: 7, Preexisting: 2}, testLimits())
	group := h.Group()
	settings := provider.Settings{ConnectorConfig: provider.ConnectorConfig{Username: "somebody"}}
	_, err := group.Init(t.Context(), hclog.NewNullLogger(), settings)
	require.NoError(t, err)

	first := pid(t, h)
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	line := log.await(t, "plugin exited unexpectedly")
	require.Equal(t, "signal: killed", line["error"])
	require.Equal(t, "fleeting-plugin-dummy", line["plugin"])
	log.await(t, "plugin restarted")
	require.NotEqual(t, first, pid(t, h))

	count := 0
	require.NoError(t, group.Update(t.Context(), func(string, provider.State) { count++ }))
	require.Equal(t, 2, count, "the configuration was sent again")
	info, err := group.ConnectInfo(t.Context(), "dummy-1")
	require.NoError(t, err)
	require.Equal(t, "somebody", info.Username, "the settings were sent again")
}

func TestPluginThatCrashedRightAfterInitIsInitialisedAfterAll(t *testing.T) {
	h, log := startDummy(t, &dummy.InstanceGroup{Preexisting: 1}, testLimits())
	first, err := h.current()
	require.NoError(t, err)
	first.process.kill(errors.New("as if it had crashed"))
	log.await(t, "plugin restarted")
	// The answer to Init was on its way when the process ended.
	h.initialised(first, provider.Settings{})
	require.Eventually(t, func() bool { return len(log.lines("plugin restarted")) == 2 }, 20*time.Second, 5*time.Millisecond)
	count := 0
	require.NoError(t, h.Group().Update(t.Context(), func(string, provider.State) { count++ }))
	require.Equal(t, 1, count)
}

func TestCallsFailClearlyWhileThePluginIsDown(t *testing.T) {
	limits := testLimits()
	limits.RestartMin, limits.RestartMax = time.Hour, time.Hour
	h, log := startDummy(t, &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Increase": {Panic: "out of luck"}}}, limits)
	initDummy(t, h)
	_, err := h.Group().Increase(t.Context(), 1)
	require.ErrorContains(t, err, "no answer", "the call may have been carried out")

	line := log.await(t, "plugin exited unexpectedly")
	require.Contains(t, line["output"], "panic: out of luck")
	require.Contains(t, line["output"], "goroutine")
	log.await(t, "restarting plugin")
	err = h.Group().Update(t.Context(), func(string, provider.State) {})
	require.ErrorContains(t, err, `plugin "fleeting-plugin-dummy" is not running: it is restarted after exit status 2`)
	require.False(t, ambiguous(err), "the call was certainly not carried out")
}

func TestRestartsBackOff(t *testing.T) {
	h, log := startDummy(t, nil, testLimits())
	// The running process is not to fail, the new ones are.
	s, err := h.current()
	require.NoError(t, err)
	h.initialised(s, provider.Settings{})
	h.cfg.PluginConfig = []byte(`{"Faults":{"Init":{"Exit":9}}}`)
	require.NoError(t, syscall.Kill(pid(t, h), syscall.SIGKILL))
	require.Eventually(t, func() bool { return len(log.lines("restarting plugin")) >= 5 }, 20*time.Second, 10*time.Millisecond)
	var delays []any
	for _, line := range log.lines("restarting plugin")[:5] {
		delays = append(delays, line["delay"])
	}
	require.Equal(t, []any{"50ms", "100ms", "200ms", "400ms", "400ms"}, delays)
	require.ErrorContains(t, h.Group().Heartbeat(t.Context(), "x"), "initialise restarted plugin")
	h.Stop()
}

func TestHungCallEndsInTimeAndTheLivingPluginStays(t *testing.T) {
	limits := testLimits()
	limits.Calls.Heartbeat = 100 * time.Millisecond
	h, log := startDummy(t, &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Heartbeat": {Hang: true, Calls: 1}}}, limits)
	initDummy(t, h)
	s, err := h.current()
	require.NoError(t, err)
	err = h.Group().Heartbeat(t.Context(), "x")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "Heartbeat")
	require.True(t, ambiguous(err))
	require.ErrorContains(t, h.Group().Heartbeat(t.Context(), "x"), "does not run")
	require.Eventually(t, func() bool { return !s.suspected.Load() }, 10*time.Second, 5*time.Millisecond)
	require.Empty(t, log.lines("plugin does not answer and is ended"))
}

// freeze stops a plugin. The signal alone takes a while to reach all of its threads.
func freeze(t *testing.T, pid int) {
	t.Helper()
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	var status syscall.WaitStatus
	_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped())
}

func TestStoppedPluginIsEndedAndRestarted(t *testing.T) {
	limits := testLimits()
	limits.Calls.Update = 200 * time.Millisecond
	h, log := startDummy(t, &dummy.InstanceGroup{}, limits)
	initDummy(t, h)
	stopped := pid(t, h)
	freeze(t, stopped)
	err := h.Group().Update(t.Context(), func(string, provider.State) {})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	log.await(t, "plugin does not answer and is ended")
	log.await(t, "plugin restarted")
	require.False(t, alive(stopped))
	require.NoError(t, h.Group().Update(t.Context(), func(string, provider.State) {}))
}

func TestStopEndsAPluginThatDoesNotListen(t *testing.T) {
	h, _ := startDummy(t, nil, testLimits())
	stopped := pid(t, h)
	freeze(t, stopped)
	begin := time.Now()
	h.Stop()
	require.Less(t, time.Since(begin), 5*time.Second)
	require.False(t, alive(stopped))
}

func TestCallerMayGiveUp(t *testing.T) {
	h, _ := startDummy(t, &dummy.InstanceGroup{Faults: map[string]dummy.Fault{"Increase": {Hang: true}}}, testLimits())
	initDummy(t, h)
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("enough")) })
	_, err := h.Group().Increase(ctx, 1)
	require.ErrorIs(t, err, context.Canceled)
}

func TestPluginIsNotRestartedAfterShutdown(t *testing.T) {
	h, log := startDummy(t, nil, testLimits())
	initDummy(t, h)
	require.NoError(t, h.Group().Shutdown(t.Context()))
	require.NoError(t, syscall.Kill(pid(t, h), syscall.SIGKILL))
	log.await(t, "plugin exited after its shutdown")
	require.ErrorContains(t, h.Group().Heartbeat(t.Context(), "x"), "was shut down")
	require.Empty(t, log.lines("plugin exited unexpectedly"))
}

func TestOutputOfThePluginReachesTheLog(t *testing.T) {
	h, log := startDummy(t, &dummy.InstanceGroup{Name: "g", Faults: map[string]dummy.Fault{
		"Heartbeat": {Stderr: "[WARN] written to standard error"},
	}}, testLimits())
	initDummy(t, h)
	line := log.await(t, "dummy group initialised")
	require.Equal(t, "info", line["@level"])
	require.Equal(t, "g", line["name"])
	require.Equal(t, "fleeting-plugin-dummy", line["plugin"])
	require.Error(t, h.Group().Heartbeat(t.Context(), "x"))
	require.Equal(t, "warn", log.await(t, "[WARN] written to standard error")["@level"])
}

func TestPluginOutlivesTheSignalsOfAServiceManager(t *testing.T) {
	h, log := startDummy(t, nil, testLimits())
	initDummy(t, h)
	before := pid(t, h)
	require.NoError(t, syscall.Kill(before, syscall.SIGTERM))
	log.await(t, "leaving a signal to the host")
	require.NoError(t, h.Group().Update(t.Context(), func(string, provider.State) {}))
	require.Equal(t, before, pid(t, h))
}

// actAsHost is the main function of a host that is going to be killed: it starts a plugin, prints the
// plugin's process id and waits.
func actAsHost() {
	h, err := Start(Config{Path: os.Getenv(hostEnv), Logger: hclog.NewNullLogger(), Limits: DefaultLimits()})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s, err := h.current()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.process.pid)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestPluginEndsWhenItsHostIsKilled(t *testing.T) {
	executable, err := os.Executable()
	require.NoError(t, err)
	host := exec.Command(executable)
	host.Env = append(os.Environ(), hostEnv+"="+dummyBinary)
	hold, err := host.StdinPipe()
	require.NoError(t, err)
	defer hold.Close()
	out, err := host.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, host.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	plugin, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)
	require.True(t, alive(plugin))

	require.NoError(t, host.Process.Kill())
	require.Error(t, host.Wait())
	require.Eventually(t, func() bool { return !running(plugin) }, 10*time.Second, 5*time.Millisecond)
}

// running tells whether a process runs; the remains of one that nobody waits for do not count.
func running(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return alive(pid)
	}
	_, rest, _ := strings.Cut(string(status), ") ")
	return !strings.HasPrefix(rest, "Z")
}

// TestLifelineAloneEndsThePlugin covers the systems on which the kernel does not help: the plugin is
// run by hand and its standard input is closed.
func TestLifelineAloneEndsThePlugin(t *testing.T) {
	p := newProcess(dummyBinary, hclog.NewNullLogger())
	p.env = append(os.Environ(), "FLEETING_PLUGIN=b5a3d7f1-instance-group", "PLUGIN_PROTOCOL_VERSIONS=1")
	require.NoError(t, p.Start(t.Context()))
	line, err := bufio.NewReader(p.Stdout()).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "|grpc|")
	require.NoError(t, p.lifeline.Close())
	_, _ = io.Copy(io.Discard, p.Stdout())
	<-p.exited
	require.EqualError(t, p.exitError(), "exit status 1")
	p.wait()
}
