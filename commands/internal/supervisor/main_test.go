//go:build unix

package supervisor

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// actEnv has the test binary act as another program: see act.
const actEnv = "TEST_ACT_AS"

func TestMain(m *testing.M) {
	if role := os.Getenv(actEnv); role != "" {
		os.Exit(act(role))
	}
	goleak.VerifyTestMain(m)
}

// The roles of the test binary.
const (
	// runner prints the signals it gets. It ends at SIGTERM, with status 7, and once it has got SIGQUIT at
	// SIGHUP, which stands for the end of its last job.
	runner = "runner"
	// stubborn prints the signals it gets, and ends at none. It has a child like itself.
	stubborn = "stubborn"
	// childless is stubborn without a child.
	childless = "childless"
	// idle prints the signals it gets, and ends at SIGQUIT.
	idle = "idle"
	// keeper supervises an idle one.
	keeper = "keeper"
)

func act(role string) int {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTERM)
	switch role {
	case stubborn:
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), actEnv+"="+childless)
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
	case keeper:
		p := New(Options{Path: os.Args[0], Env: append(os.Environ(), actEnv+"="+idle), Stdout: os.Stdout, Log: silent()})
		if err := p.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		<-p.settled
		return 0
	}
	fmt.Println("ready")
	draining := false
	for s := range signals {
		fmt.Println(s)
		switch {
		case role == idle && s == syscall.SIGQUIT:
			return 0
		case role == runner && s == syscall.SIGQUIT:
			draining = true
		case role == runner && s == syscall.SIGTERM:
			return 7
		case draining && s == syscall.SIGHUP:
			return 0
		}
	}
	return 1
}

func silent() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// patience bounds what is waited for; it is no expectation.
const patience = time.Minute

// output is what a process and those that it started write.
type output struct {
	t     *testing.T
	lines *bufio.Reader
}

// newOutput returns an output, and what a process is to write to.
func newOutput(t *testing.T) (*output, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	require.NoError(t, r.SetReadDeadline(time.Now().Add(patience)))
	return &output{t: t, lines: bufio.NewReader(r)}, w
}

// shows waits for lines.
func (o *output) shows(want ...string) {
	o.t.Helper()
	for _, line := range want {
		got, err := o.lines.ReadString('\n')
		require.NoError(o.t, err)
		require.Equal(o.t, line, strings.TrimSuffix(got, "\n"))
	}
}

// ends waits until no process is left that could write anything.
func (o *output) ends() {
	o.t.Helper()
	_, err := io.Copy(io.Discard, o.lines)
	require.NoError(o.t, err)
}

// logged is the log as lines of JSON.
func logged(t *testing.T, hook *logtest.Hook) string {
	t.Helper()
	var out strings.Builder
	for _, entry := range hook.AllEntries() {
		line, err := new(logrus.JSONFormatter).Format(entry)
		require.NoError(t, err)
		out.Write(line)
	}
	return out.String()
}

// start starts the test binary in a role. At the end of the test it is ended if it is still there.
func start(t *testing.T, role string) (*Process, *output, *logtest.Hook) {
	t.Helper()
	out, w := newOutput(t)
	log, hook := logtest.NewNullLogger()
	p := New(Options{Path: os.Args[0], Env: append(os.Environ(), actEnv+"="+role), Stdout: w, Log: log})
	require.NoError(t, p.Start())
	t.Cleanup(func() { _ = p.Terminate(t.Context(), patience) })
	require.NoError(t, w.Close())
	if role == stubborn {
		out.shows("ready") // two processes, in any order
	}
	out.shows("ready")
	return p, out, hook
}
