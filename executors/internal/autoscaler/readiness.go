package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/fleeting/fleeting"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"gitlab.com/gitlab-org/fleeting/taskscaler"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors"
)

// readiness decides whether a new instance may take jobs, and gets it ready for them.
type readiness struct {
	fleet *fleet
	// runner is the entry as it was when the fleet was started.
	runner *config.Runner

	ctx    context.Context
	cancel context.CancelCauseFunc
	// warming are the instances that are being warmed, or looked after since.
	warming sync.WaitGroup

	mu   sync.Mutex
	last error
	// foundUnknown and foundForeign: the operator was told of such instances.
	foundUnknown, foundForeign bool
}

var errShuttingDown = errors.New("the autoscaler is shutting down")

func newReadiness(f *fleet, runner *config.Runner) *readiness {
	ctx, cancel := context.WithCancelCause(context.Background())
	return &readiness{fleet: f, runner: runner, ctx: ctx, cancel: cancel}
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
	if instance.Cause == fleeting.CauseUnexpected {
		r.tellForeign(instance.ID)
	}
	if instance.Cause == fleeting.CausePreexisted && !instance.Restored {
		r.tellUnknown(instance.ID)
		return errors.New("no data on pre-existing instance so removing for safety")
	}
	info := instance.Info
	info.ID = instance.ID
	ctx, stop := r.during(instance.Life)
	if err := r.prepare(ctx, info); err != nil {
		stop()
		return err
	}
	r.warm(ctx, stop, info)
	return nil
}

// during returns a context for work on an instance: it ends with the instance's life, since its address may soon be
// another one's, and with the readiness.
func (r *readiness) during(life context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	unhook := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
	return ctx, func() {
		unhook()
		cancel(nil)
	}
}

// prepare connects to an instance and runs the operator's command there.
func (r *readiness) prepare(ctx context.Context, info provider.ConnectInfo) error {
	client, err := r.fleet.connections.get(ctx, info)
	if err != nil {
		return fmt.Errorf("connecting to instance: %w", err)
	}
	command := r.runner.Autoscaler.InstanceReadyCommand
	if command == "" {
		return nil
	}
	if err := client.Run(ctx, executors.RunOptions{Command: command}); err != nil {
		return fmt.Errorf("ready command: %w", err)
	}
	return nil
}

// tellForeign tells the operator, once, that somebody else creates instances.
func (r *readiness) tellForeign(instance string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.foundForeign {
		return
	}
	r.foundForeign = true
	r.fleet.log.WithField("instance", instance).Warning("An instance appeared that this runner did not ask for. It is used as its own, and removed when it is idle. If another runner uses the same group, each will remove instances of the other with the jobs on them: give every runner entry a group of its own in [runners.autoscaler.plugin_config]")
}

// tellUnknown tells the operator, once, that instances found at the start are removed.
func (r *readiness) tellUnknown(instance string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.foundUnknown {
		return
	}
	r.foundUnknown = true
	hint := "set enabled = true in [runners.autoscaler.state_storage] to keep idle instances over a restart"
	if c := r.runner.Autoscaler.StateStorage; c != nil && c.Enabled {
		hint = "the state storage does not know them"
	}
	r.fleet.log.WithField("instance", instance).Warning("Instances that existed before this runner was started are removed, as nobody knows what was done on them: " + hint)
}

// warm has the wrapped executor get the instance ready for jobs, while the instance may already take
// them, and look after it from then on. It calls stop in the end. The taskscaler waits for up, so that this is not
// called after wait.
func (r *readiness) warm(ctx context.Context, stop context.CancelFunc, info provider.ConnectInfo) {
	runner := r.fleet.entry()
	if runner == nil {
		runner = r.runner
	}
	r.warming.Go(func() {
		defer stop()
		env := environment{id: info.ID, connect: func(ctx context.Context) (executors.Client, error) {
			return r.fleet.connections.get(ctx, info)
		}}
		started := time.Now()
		err := r.fleet.options.Inner.Warm(ctx, runner, env)
		log := r.fleet.log.WithFields(logrus.Fields{"instance": info.ID, "took": time.Since(started)})
		switch {
		case ctx.Err() != nil:
		case err != nil:
			log.WithError(err).Warning("warming the instance failed: its first job will do it")
		default:
			r.fleet.connections.works(info.ID)
			log.Info("instance is warm")
		}
		if err := r.fleet.options.Inner.Watch(ctx, runner, env); err != nil && ctx.Err() == nil {
			r.fleet.lost(info.ID, err)
		}
	})
}

// lastFailure is why the latest instance did not become ready, nil if it did.
func (r *readiness) lastFailure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// end ends what is under way.
func (r *readiness) end() { r.cancel(errShuttingDown) }

// wait waits for what end ended.
func (r *readiness) wait() { r.warming.Wait() }

// environment is an instance as an executor sees it.
type environment struct {
	id      string
	connect func(ctx context.Context) (executors.Client, error)
}

func (e environment) ID() string { return e.id }

func (e environment) Connect(ctx context.Context) (executors.Client, error) { return e.connect(ctx) }
