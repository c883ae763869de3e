//go:build system

package docker

import (
	"context"
	"errors"
	"io"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
)

// loopback is an environment that is this machine.
type loopback struct {
	id string
	// refuse makes the machine forward nothing.
	refuse bool
	// socket is that of the machine's engine, where it is not the usual one.
	socket string

	mu    sync.Mutex
	conns []net.Conn
	dials atomic.Int64
	runs  atomic.Int64
}

func (l *loopback) ID() string { return l.id }

func (l *loopback) Connect(context.Context) (executors.Client, error) { return &loopbackClient{l}, nil }

// cut breaks every connection there is.
func (l *loopback) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		_ = conn.Close()
	}
	l.conns = nil
}

func (l *loopback) keep(conn net.Conn, err error) (net.Conn, error) {
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conns = append(l.conns, conn)
	}
	return conn, err
}

type loopbackClient struct{ *loopback }

func (c *loopbackClient) Dial(network, addr string) (net.Conn, error) {
	if c.refuse {
		return nil, errors.New("administratively prohibited")
	}
	c.dials.Add(1)
	if c.socket != "" {
		addr = c.socket
	}
	return c.keep(net.Dial(network, addr))
}

func (c *loopbackClient) DialRun(ctx context.Context, command string) (net.Conn, error) {
	c.runs.Add(1)
	process := exec.CommandContext(ctx, "sh", "-c", command)
	near, far := net.Pipe()
	stdin, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	process.Stdout = far
	if err := process.Start(); err != nil {
		return nil, err
	}
	go func() {
		_, _ = io.Copy(stdin, far)
		_ = stdin.Close()
	}()
	go func() {
		_ = process.Wait()
		_ = far.Close()
	}()
	return c.keep(near, nil)
}

func (c *loopbackClient) Run(context.Context, executors.RunOptions) error {
	return errors.New("not needed here")
}

func (c *loopbackClient) Close() error { return nil }

func TestTunnelIsDirectWhereThatIsAllowed(t *testing.T) {
	on := true
	cases := map[string]struct {
		env       *loopback
		configure func(job *common.Job)
		direct    bool
	}{
		"allowed": {env: &loopback{id: "i-1"}, direct: true},
		"refused": {env: &loopback{id: "i-2", refuse: true}},
		"asked for a command": {
			env: &loopback{id: "i-3"},
			configure: func(job *common.Job) {
				job.Runner.FeatureFlags = map[string]bool{featureflags.AutoscalerDialStdio: on}
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newTrial(t, "busybox:latest", c.configure)
			r.executor = r.provider.NewExecutor(r.job, c.env)
			r.prepare()
			err := r.script(t.Context(), framed("echo through the tunnel; exit 3"))
			r.cleanup()
			var failed *common.BuildError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, 3, failed.ExitCode)
			require.Contains(t, r.log.String(), "through the tunnel")
			require.Equal(t, c.direct, c.env.runs.Load() == 0)
			require.Equal(t, c.direct, c.env.dials.Load() > 0)
			t.Logf("%d connections, %d commands", c.env.dials.Load(), c.env.runs.Load())

			// A second job knows what the first one found out.
			before := c.env.dials.Load() + c.env.runs.Load()
			r.executor = r.provider.NewExecutor(r.job, c.env)
			started := time.Now()
			_, err = r.executor.Connect(t.Context())
			require.NoError(t, err)
			require.Less(t, time.Since(started), 50*time.Millisecond)
			require.NoError(t, r.executor.Cleanup(t.Context()))
			require.Equal(t, before, c.env.dials.Load()+c.env.runs.Load(), "a warm machine is asked nothing")
		})
	}
}

func TestCleanupSurvivesALostConnection(t *testing.T) {
	env := &loopback{id: "i-4"}
	r := newTrial(t, "busybox:latest", nil)
	r.executor = r.provider.NewExecutor(r.job, env)
	r.prepare()
	ctx, cancel := context.WithCancelCause(t.Context())
	lost := errors.New("the machine went away for a moment")
	time.AfterFunc(time.Second, func() {
		env.cut()
		cancel(lost)
	})
	err := r.script(ctx, framed("sleep 100"))
	require.ErrorIs(t, err, lost)
	r.cleanup()
	require.Empty(t, r.leftovers())
}

func TestLeftoversGoAtTheNextUse(t *testing.T) {
	env := &loopback{id: "i-5"}
	r := newTrial(t, "busybox:latest", nil)
	r.executor = r.provider.NewExecutor(r.job, env)
	r.prepare()
	require.NoError(t, r.script(t.Context(), framed("true")))
	// The machine is out of reach when the job ends.
	env.refuse = true
	env.cut()
	short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	require.Error(t, r.executor.Cleanup(short))
	left := r.leftovers()
	require.Len(t, left, 1)

	env.refuse = false
	r.job.Spec.ID++
	r.executor = r.provider.NewExecutor(r.job, env)
	r.prepare()
	defer r.cleanup()
	r.executor.(*executor).background.Wait()
	require.NotContains(t, r.leftovers(), left[0])
}
