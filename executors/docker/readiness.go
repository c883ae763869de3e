package docker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

const (
	// logLimit bounds what of a service's log is shown when it did not become ready.
	logLimit = 64 << 10
	// logSettle is how long a service that failed may go on writing before its log is shown.
	logSettle = 10 * time.Second
	// checkMargin is how much longer than its own limit a check is waited for.
	checkMargin = 2 * time.Second
)

// awaitReady waits until every service answers on one of its ports, or tells the user that it does not.
// That is never an error of the job.
func (s *services) awaitReady(ctx context.Context, log *turn) error {
	timeout := s.timeout()
	if len(s.list) == 0 || timeout < 0 {
		return nil
	}
	log.Print("Waiting for services to be up and running (timeout %d seconds)...", int(timeout.Seconds()))
	select {
	case <-s.executor.HelperReady():
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	started := time.Now()
	var unready atomic.Int64
	var checks sync.WaitGroup
	for _, one := range s.list {
		checks.Go(func() {
			output, err := s.check(ctx, log, one, timeout)
			if err == nil || ctx.Err() != nil {
				return
			}
			unready.Add(1)
			s.explain(ctx, log, one, err, output, timeout-time.Since(started))
		})
	}
	checks.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if unready.Load() == 0 {
		log.Print("Services are up after %.1fs", time.Since(started).Seconds())
	}
	return nil
}

// noCheckError marks the failure of a service that no check was run for.
type noCheckError struct{ error }

// check dials the ports of a service from the helper container.
func (s *services) check(ctx context.Context, log images.Log, one *service, timeout time.Duration) (string, error) {
	ports, err := one.ports()
	switch {
	case err != nil:
		return "", noCheckError{err}
	case len(ports) == 0:
		return "", noCheckError{fmt.Errorf("service %q has no exposed ports", one.Container.Name)}
	case one.ended:
		return "", noCheckError{endedError{one.Container.Name, one.exitCode}}
	}
	helper, err := s.executor.startHelper(ctx, log)
	if err != nil {
		return "", noCheckError{err}
	}
	started := time.Now()
	ctx, release := s.whileItRuns(ctx, one)
	defer release()
	ctx, cancel := context.WithTimeout(ctx, timeout+checkMargin)
	defer cancel()
	output, err := s.executor.command(ctx, helper, docker.Command{
		Args: s.checkCommand(timeout),
		Env:  checkEnvironment(one, ports),
	})
	switch {
	case err == nil:
		return "", nil
	case errors.As(context.Cause(ctx), &endedError{}):
		return "", noCheckError{context.Cause(ctx)}
	case ctx.Err() != nil, time.Since(started) >= timeout:
		return output, fmt.Errorf("service %q timeout", waiterName(one))
	default:
		return output, fmt.Errorf("service %q health check: %w", waiterName(one), err)
	}
}

// endedError says that a service ended instead of becoming ready.
type endedError struct {
	container string
	code      int
}

func (e endedError) Error() string {
	return fmt.Sprintf("service %q ended with exit code %d", e.container, e.code)
}

// whileItRuns returns a context that ends with a service's container, by an endedError. The caller calls
// release.
func (s *services) whileItRuns(ctx context.Context, one *service) (running context.Context, release func()) {
	running, cancel := context.WithCancelCause(ctx)
	ended := s.executor.engine.ContainerWait(running, one.id, true)
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case exit := <-ended:
			if exit.Err == nil {
				cancel(endedError{one.Container.Name, exit.Code})
			}
		case <-running.Done():
		}
	})
	return running, func() {
		cancel(nil)
		watch.Wait()
	}
}

// checkCommand ends by itself after the timeout. On Windows it ends with its container.
func (s *services) checkCommand(timeout time.Duration) []string {
	command := []string{s.executor.helperProgram(), "health-check"}
	if s.executor.server.OS == "windows" {
		return command
	}
	return append([]string{"timeout", strconv.Itoa(int(timeout.Seconds()))}, command...)
}

func waiterName(one *service) string { return one.Container.Name + "-wait-for-service" }

// checkEnvironment tells the check where to dial. A service without an address of its own shares the
// network of the helper.
func checkEnvironment(one *service, ports []int) []string {
	address := "localhost"
	if len(one.addresses) > 0 {
		address = one.addresses[0].String()
	}
	environment := []string{"WAIT_FOR_SERVICE_TCP_ADDR=" + address}
	for _, port := range ports {
		environment = append(environment, fmt.Sprintf("WAIT_FOR_SERVICE_%d_TCP_PORT=%d", port, port))
	}
	return environment
}

// explain shows why a service is thought not to be ready, and what it printed.
func (s *services) explain(ctx context.Context, log *turn, one *service, failure error, output string, left time.Duration) {
	var unchecked noCheckError
	checked := !errors.As(failure, &unchecked)
	if checked && left > 0 {
		_ = pause.For(ctx, min(left, logSettle)) // the job's end is seen by what comes next
	}
	var text strings.Builder
	fmt.Fprintf(&text, "\n\x1b[0;33m*** WARNING:\x1b[0;m Service %s probably didn't start properly.\n\n", one.Container.Name)
	fmt.Fprintf(&text, "Health check error:\n%s\n\n", failure)
	if checked {
		fmt.Fprintf(&text, "Health check container logs:\n%s\n\n", output)
	}
	printed := &head{limit: logLimit}
	if err := s.executor.engine.ContainerLogs(ctx, one.id, docker.LogOptions{Timestamps: true}, printed, printed); err != nil {
		fmt.Fprintf(printed, "\n(reading the log failed: %v)", err)
	}
	fmt.Fprintf(&text, "Service container logs:\n%s\n\n\x1b[0;33m*********\x1b[0;m\n\n", printed.String())
	log.Block(text.String())
}
