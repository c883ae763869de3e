package docker

import (
	"context"
	"errors"
	"io"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

const (
	// termLimit bounds how long processes are asked to end, so that all that the job made is gone within ten
	// seconds even if they do not. termWait is how long a script is waited for that should end by itself then.
	termLimit = 7 * time.Second
	termWait  = time.Second
	// stopLimit bounds the whole end of a container; the engine's own grace is 10 s.
	stopLimit = 45 * time.Second
)

// askToEnd sends TERM to every process but itself and the first, the youngest first, and gives each
// some seconds. The first one is the shell, which then ends by itself.
const askToEnd = `self=$$
cd /proc
list=$(printf '%s\n' [0-9]* | sort -rn 2>/dev/null)
for pid in ${list:-[0-9]*}; do
	[ "$pid" -eq 1 ] || [ "$pid" -eq "$self" ] || [ ! -d "/proc/$pid" ] && continue
	kill -TERM "$pid" 2>/dev/null || continue
	tries=0
	while [ "$tries" -lt 50 ] && kill -0 "$pid" 2>/dev/null; do
		if read -r stat <"/proc/$pid/stat"; then
			case $stat in *") Z "*) break ;; esac
		fi 2>/dev/null
		sleep 0.1 2>/dev/null || sleep 1
		tries=$((tries + 1))
	done
done
`

// terminate ends a container whose stage was given up, lets its last words into the log, and removes
// it: a later stage gets a new one. It does not depend on the job's context.
func (e *executor) terminate(ctx context.Context, p *process) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	e.end(ctx, p)
	e.lastWords(ctx, p)
	if err := e.engine.ContainerRemove(ctx, p.id, !e.plan.KeepVolumes); err != nil && !docker.IsNotFound(err) {
		e.log.WithError(err).Warning("removing a stopped container failed; it is tried again at the end of the job")
		return
	}
	e.build.id = ""
}

// lastWords lets what a container that was ended printed into the log, for a short while at most.
func (e *executor) lastWords(ctx context.Context, p *process) {
	ctx, cancel := context.WithTimeout(ctx, lastOutput)
	defer cancel()
	p.drain(ctx)
}

// termProcesses asks the processes of a container to end. Nothing depends on its success.
func (e *executor) termProcesses(ctx context.Context, p *process) {
	ctx, cancel := context.WithTimeout(ctx, termLimit)
	defer cancel()
	exec, err := e.engine.Exec(ctx, p.id, docker.Command{Args: []string{"sh", "-c", askToEnd}})
	if err != nil {
		return
	}
	closed := context.AfterFunc(ctx, func() { _ = exec.Close() })
	defer closed()
	_ = exec.Copy(io.Discard, io.Discard)
	_ = exec.Close()
}

// end asks the processes of a container to end, then has the engine stop it. Processes that had their
// time to end are not given it again.
func (e *executor) end(ctx context.Context, p *process) {
	if e.nativeStop() {
		e.stop(ctx, p, termWait, nil)
		return
	}
	started := time.Now()
	e.termProcesses(ctx, p)
	left := max(0, termLimit-time.Since(started))
	grace := max(time.Second, left)
	e.stop(ctx, p, min(termWait, left), new(int(grace.Seconds())))
}

// stop has the engine stop a container that does not end by itself within patience, until it has ended or the
// limit is over. Where the answer about its end was lost, stopping is left to the removal. A nil grace, in
// seconds, is the container's own.
func (e *executor) stop(ctx context.Context, p *process, patience time.Duration, grace *int) {
	select {
	case <-p.exit.done:
		return
	case <-time.After(patience):
	}
	for ctx.Err() == nil {
		if err := e.engine.ContainerStop(ctx, p.id, grace); docker.IsNotFound(err) || docker.IsConnectionFailed(err) {
			return
		}
		select {
		case <-p.exit.done:
			return
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// stopLingering ends a container whose script closed its output, and returns its exit code.
func (e *executor) stopLingering(ctx context.Context, p *process) (int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	e.end(ctx, p)
	select {
	case <-p.exit.done:
		return p.exit.value.Code, p.exit.value.Err
	default:
		return 0, errNotStopped
	}
}

var errNotStopped = errors.New("the container closed its output, and could not be stopped")
