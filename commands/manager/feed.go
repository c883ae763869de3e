package manager

import (
	"context"
	"slices"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
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
			sleep(ctx, interval)
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
			sleep(ctx, interval/time.Duration(len(file.Runners)))
		}
	}
}

// start has a worker, whose place is already taken, process an entry.
func (m *Manager) start(ctx, working context.Context, runner *config.Runner) {
	m.running.Go(func() {
		defer m.workers.release()
		m.process(ctx, working, runner)
	})
}

// again offers an entry that just got a job to an idle worker, so that a long queue is taken quickly. It
// is offered as it is in the configuration now, and not at all if it is gone from there.
func (m *Manager) again(ctx, working context.Context, runner *config.Runner) {
	file := m.Config()
	at := slices.IndexFunc(file.Runners, func(other *config.Runner) bool {
		return other.URL == runner.URL && other.Token == runner.Token
	})
	if at < 0 || file.Runners[at].StrictCheckInterval || ctx.Err() != nil || !m.workers.tryAcquire() {
		return
	}
	m.start(ctx, working, file.Runners[at])
}

func (m *Manager) worthFeeding(runner *config.Runner) bool {
	return runner.Token != "" && m.health.healthy(runner, m.log)
}

// sleep waits for a while or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
