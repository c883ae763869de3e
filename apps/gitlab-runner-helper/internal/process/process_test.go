//go:build unix

package process_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func shell(script string, out *bytes.Buffer) process.Command {
	return process.Command{Name: "script", Args: []string{"/bin/sh"}, Stdin: strings.NewReader(script), Stdout: out, Stderr: out}
}

func TestExitCodesAreKept(t *testing.T) {
	for script, code := range map[string]int{"exit 3": 3, "kill -KILL $$": 137, "kill -TERM $$": 143} {
		err := process.Run(t.Context(), shell(script, &bytes.Buffer{}))
		var exit *process.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, code, exit.Code)
	}
	require.NoError(t, process.Run(t.Context(), shell("exit 0\n"+strings.Repeat("#", 1<<20), &bytes.Buffer{})))
	err := process.Run(t.Context(), process.Command{Name: "nothing", Args: []string{"/no/such/program"}})
	require.ErrorContains(t, err, "running nothing: ")
}

func TestWhatStartsAfterTheEndIsNotRun(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("given up"))
	var out bytes.Buffer
	require.EqualError(t, process.Run(ctx, shell("echo started", &out)), "given up")
	require.Empty(t, out.String())
}

func TestProgramsThatDoNotListenAreKilled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	done := make(chan error)
	go func() {
		done <- process.Run(ctx, process.Command{
			Name: "script", Args: []string{"/bin/sh", "-c", "trap '' TERM; echo $$; while :; do sleep 0.1; done"}, Stdout: w,
		})
	}()
	line := make([]byte, 20)
	n, err := r.Read(line)
	require.NoError(t, err)
	require.NotZero(t, n)
	begun := time.Now()
	cancel(errors.New("given up"))
	require.EqualError(t, <-done, "given up")
	require.Less(t, time.Since(begun), 30*time.Second)
	require.NoError(t, w.Close())
}

func TestEnvironmentRefusesWhatCannotBeHandedOn(t *testing.T) {
	e := process.NewEnvironment([]string{"A=1", "bad", "=x", "B=2"})
	require.NoError(t, e.Set("A", "3"))
	for _, key := range []string{"", "A=B", "A\x00"} {
		require.Error(t, e.Set(key, "x"))
	}
	require.ErrorContains(t, e.Set("A", "x\x00"), "variable A cannot be exported")
	require.Equal(t, "3", e.Get("A"))

	var out bytes.Buffer
	c := shell("echo $A$B$C", &out)
	c.Env = e.Entries("C=4")
	require.NoError(t, process.Run(t.Context(), c))
	require.Equal(t, "324\n", out.String())
	require.Len(t, e.Entries(), 3, "entries that are added for one program are not kept")
}
