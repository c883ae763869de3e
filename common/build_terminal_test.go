package common_test

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
)

// terminal is a user's place in a job; gone is closed when the user goes.
type terminal struct {
	offered bool
	gone    chan struct{}
	cause   error
}

func (t *terminal) Offer(func(context.Context) (io.ReadWriteCloser, error)) { t.offered = true }
func (t *terminal) Disconnected() <-chan struct{}                           { return t.gone }

func (t *terminal) End(cause error) {
	if t.cause == nil {
		t.cause = cause
	}
}

func TestAJobWaitsForTheUserOfItsTerminal(t *testing.T) {
	for name, c := range map[string]struct {
		// stays is how long the user is there; 0 is nobody.
		stays, timeout time.Duration
		takes          time.Duration
		says, ends     string
	}{
		"nobody is there":      {ends: "the job has ended"},
		"the user goes":        {stays: time.Minute, timeout: time.Hour, takes: time.Minute, says: "Terminal disconnected", ends: "the job has ended"},
		"the user stays":       {stays: time.Hour, timeout: time.Minute, takes: time.Minute, says: "Terminal is connected, will time out in 1m0s...", ends: "terminal session timed out (maximum time allowed - 1m0s)"},
		"the job's time is up": {stays: 8 * time.Hour, timeout: 8 * time.Hour, takes: time.Hour, says: "will time out in 1h0m0s...", ends: "terminal session timed out"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				user := &terminal{gone: make(chan struct{})}
				if c.stays == 0 {
					close(user.gone)
				} else {
					time.AfterFunc(c.stays, func() { close(user.gone) })
				}
				m, tr, job := newMachine(), &trace{}, fullJob()
				job.Runner.Timeout = int(time.Hour.Seconds())
				started := time.Now()
				newBuildOf(job, m, tr, func(o *common.BuildOptions) {
					o.Terminal, o.TerminalTimeout = user, c.timeout
				}).Run(context.Background())
				require.True(t, user.offered)
				require.Equal(t, c.takes, time.Since(started).Round(time.Second))
				require.Contains(t, tr.String(), c.says)
				require.ErrorContains(t, user.cause, c.ends)
				time.Sleep(c.stays)
			})
		})
	}
}
