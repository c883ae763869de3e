package manager

import (
	"context"
	"errors"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

// feed offers the runner entries to workers in turn, spread evenly over the check interval, until ctx
// ends. It waits for a free worker, so that no job is asked for that could not be run at once.
func (m *Manager) feed(ctx, working context.Context) {
	for ctx.Err() == nil {
		file := m.Config()
		interval := config.DefaultCheckInterval
		if file.CheckInterval > 0 {
			interval = time.Duration(file.CheckInterval) * time.Second
		}
		if len(file.Runners) == 0 {
			if pause.For(ctx, interval) != nil {
				return
			}
			continue
		}
		for _, runner := range file.Runners {
			if m.Config() != file {
				break
			}
			if m.worthFeeding(runner) {
				m.options.Metrics.fed(runner)
				if !m.workers.acquire(ctx) {
					return
				}
				m.start(ctx, working, runner)
			} else {
				m.options.Metrics.feedFailed(runner)
			}
			if pause.For(ctx, interval/time.Duration(len(file.Runners))) != nil {
				return
			}
		}
	}
}

// start has a worker, whose place is already taken, process an entry.
func (m *Manager) start(ctx, working context.Context, runner *config.Runner) {
	m.running.Go(func() {
		defer m.workers.release()
		_ = m.process(ctx, working, runner) // it was told
	})
}

// The pauses after which an entry that was refused room is offered again: the first, and the one that is
// no longer taken.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = time.Second
)

// again offers an entry that just got a job to an idle worker, so that a long queue is taken quickly. It
// is offered as it is in the configuration now, and not at all if it is gone from there. Where jobs need
// room on instances, that of the former job is still only reserved, which may hold further ones back for
// a moment: then it is offered a few times more.
func (m *Manager) again(ctx, working context.Context, runner *config.Runner) {
	m.running.Go(func() {
		for wait := firstPause; wait < lastPause; wait *= 2 {
			entry := m.inForce(runner)
			if entry == nil || entry.StrictCheckInterval || m.pauses.has(entry) || ctx.Err() != nil || !m.workers.tryAcquire() {
				return
			}
			err := m.process(ctx, working, entry)
			m.workers.release()
			if !errors.Is(err, common.ErrNoFreeExecutor) {
				return
			}
			if pause.For(ctx, wait) != nil {
				return
			}
		}
	})
}

// inForce returns an entry as it is in the configuration now, nil if it is gone from there.
func (m *Manager) inForce(runner *config.Runner) *config.Runner {
	for _, other := range m.Config().Runners {
		if other.URL == runner.URL && other.Token == runner.Token {
			return other
		}
	}
	return nil
}

func (m *Manager) worthFeeding(runner *config.Runner) bool {
	return runner.Token != "" && !m.pauses.has(runner) && m.health.healthy(runner, m.log)
}
