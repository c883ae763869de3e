package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/fleeting/taskscaler"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
)

// readiness decides whether a new instance may take jobs, and gets it ready for them.
type readiness struct {
	fleet  *fleet
	runner *config.Runner

	ctx     context.Context
	cancel  context.CancelCauseFunc
	warming sync.WaitGroup

	mu   sync.Mutex
	last error
}

var errShuttingDown = errors.New("the autoscaler is shutting down")

func newReadiness(f *fleet, runner *config.Runner) *readiness {
	ctx, cancel := context.WithCancelCause(context.Background())
	r := &readiness{fleet: f, runner: runner, ctx: ctx, cancel: cancel}
	f.connections.onLost = f.lost
	return r
}

// up is the taskscaler's up function: its error has the instance removed.
func (r *readiness) up(scaler taskscaler.Taskscaler, instance taskscaler.UpFuncInstance) error {
	err := r.check(scaler, instance)
	r.mu.Lock()
	r.last = err
	r.mu.Unlock()
	return err
}

func (r *readiness) check(scaler taskscaler.Taskscaler, instance taskscaler.UpFuncInstance) error {
	c := r.runner.Autoscaler
	if len(instance.Acquisitions) > 0 {
		for _, key := range instance.Acquisitions {
			scaler.Release(key)
		}
		if c.StateStorage == nil || !c.StateStorage.KeepInstanceWithAcquisitions {
			return errors.New("pre-existing instance has acquisition so removing for safety")
		}
	}
	isolated := c.VMIsolation != nil && c.VMIsolation.Enabled
	if instance.Cause == fleeting.CausePreexisted && !instance.Restored && !isolated {
		return errors.New("no data on pre-existing instance so removing for safety")
	}
	info := instance.Info
	info.ID = instance.ID
	client, err := r.fleet.connections.get(r.ctx, info)
	if err != nil {
		return fmt.Errorf("connecting to instance: %w", err)
	}
	if c.InstanceReadyCommand != "" {
		err := client.Run(r.ctx, executors.RunOptions{Command: c.InstanceReadyCommand})
		if err != nil {
			return fmt.Errorf("ready command: %w", err)
		}
	}
	r.warm(info)
	return nil
}

// warm has the wrapped executor get the instance ready for jobs, while the instance may already take
// them.
func (r *readiness) warm(info provider.ConnectInfo) {
	r.warming.Go(func() {
		env := environment{id: info.ID, connect: func(ctx context.Context) (executors.Client, error) {
			return r.fleet.connections.get(ctx, info)
		}}
		if err := r.fleet.options.Inner.Warm(r.ctx, r.runner, env); err != nil && r.ctx.Err() == nil {
			r.fleet.log.WithFields(logrus.Fields{"instance": info.ID, "err": err}).Warning("warming the instance failed: its first job will do it")
		}
	})
}

// lastFailure is why the latest instance did not become ready, nil if it did.
func (r *readiness) lastFailure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// close ends what is under way.
func (r *readiness) close() {
	r.cancel(errShuttingDown)
	r.warming.Wait()
}

// lost tells the taskscaler that an instance is gone before the plugin does.
func (f *fleet) lost(instance string, cause error) {
	f.mu.Lock()
	scaler := f.scaler
	f.mu.Unlock()
	if reporter, ok := scaler.(taskscaler.InstanceReporter); ok {
		reporter.ReportLost(instance, cause)
	}
}

// environment is an instance as an executor sees it.
type environment struct {
	id      string
	connect func(ctx context.Context) (executors.Client, error)
}

func (e environment) ID() string { return e.id }

func (e environment) Connect(ctx context.Context) (executors.Client, error) { return e.connect(ctx) }
