package manager

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/bootverify"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// ProgressInterval is how often Options.Progress is told that the process is still starting.
const ProgressInterval = 20 * time.Second

// ErrBootVerification: an entry that is to be verified at the start cannot run jobs. Why is in the log.
var ErrBootVerification = errors.New("the boot verification failed")

// Ready says whether all entries were verified that are to be, so that jobs can be asked for. It stays so until
// the end of the process.
func (m *Manager) Ready() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.unverified) == 0
}

func (m *Manager) setReady() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unverified = nil
}

// toVerify are the entries that are verified at the start.
func toVerify(file *config.File) []*config.Runner {
	var out []*config.Runner
	for _, runner := range file.Runners {
		if runner.VerifiesAtBoot() {
			out = append(out, runner)
		}
	}
	return out
}

// verifyBoot runs a job of our own on each entry that wants that, as many at once as concurrent allows. The first
// one that fails is told of and ends the others. It returns when nothing of the jobs is left: nil, an error that wraps
// ErrBootVerification, or the cause of ctx.
func (m *Manager) verifyBoot(ctx context.Context, runners []*config.Runner) error {
	group, verifying := errgroup.WithContext(ctx)
	var once sync.Once
	var failed error
	// What a job left behind is told by its id. GitLab's are far below.
	first := time.Now().UnixMicro()
	for i, runner := range runners {
		group.Go(func() error {
			if !m.workers.acquire(verifying) {
				return context.Cause(verifying)
			}
			defer m.workers.release()
			err := m.verifyEntry(verifying, runner, first+int64(i))
			var failure *bootverify.Failure
			if !errors.As(err, &failure) {
				return err
			}
			once.Do(func() {
				m.tellUnverified(runner, failure)
				failed = fmt.Errorf("%w: runner %q", ErrBootVerification, runner.Name)
			})
			return failed
		})
	}
	return group.Wait()
}

func (m *Manager) verifyEntry(ctx context.Context, runner *config.Runner, id int64) error {
	log := m.log.WithFields(logrus.Fields{"runner": runner.ShortToken(), "runner_name": runner.Name})
	log.Debug("Verifying at boot that the runner can run jobs")
	started := time.Now()
	err := bootverify.Run(ctx, bootverify.Options{
		Runner: runner, Provider: m.options.Providers[runner.Executor], ID: id,
		Log: log, Version: m.options.Version, Hostname: m.options.Hostname,
	})
	if err == nil {
		log.WithField("duration_s", time.Since(started).Seconds()).Info("Boot verification succeeded")
	}
	return err
}

// tellUnverified logs why an entry cannot run jobs. The last lines of its job are one entry, so that a secret of
// several lines is recognised in it.
func (m *Manager) tellUnverified(runner *config.Runner, f *bootverify.Failure) {
	log := m.log.WithFields(logrus.Fields{"runner": runner.ShortToken(), "runner_name": runner.Name, "stage": f.Stage})
	if f.Log != "" {
		log.Warningf("The last lines of the boot verification's job:\n%s", f.Log)
	}
	reason := strings.Join(strings.FieldsFunc(f.Reason.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	log.Errorf("Boot verification of runner %q failed at stage %s: %s; no job is asked for and the process ends; %s",
		runner.Name, f.Stage, reason, f.Remedy)
}
