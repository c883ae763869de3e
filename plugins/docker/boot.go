package docker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/internal/sshkey"
)

const (
	// readyLine is what the entry point of an instance prints when both servers answer.
	readyLine = "instance: ready"

	// maxBootLog bounds what is read of an instance's output, in bytes.
	maxBootLog = 1 << 20
)

var errBootTimeout = fmt.Errorf("it did not boot within %v", bootTimeout)

// observe tells an instance's state, and begins what its state asks for. known is what this process
// knew before the engine reported c.
func (g *InstanceGroup) observe(ctx context.Context, id string, known provider.State, c container, suspended bool) provider.State {
	if known != "" && known != provider.StateRunning {
		// c may be outdated, so it does not count against what came about since, but neither does it
		// count for it.
		now := g.lives.state(id)
		if now == "" || now == provider.StateRunning && c.state != containerRunning {
			return known
		}
		return now
	}
	switch c.state {
	case containerRunning, containerPaused:
		switch {
		case suspended:
			g.finishSuspending(id)
			return provider.StateSuspending
		case known == provider.StateRunning:
			return known
		default:
			return g.adopt(ctx, id)
		}
	case containerRemoving:
		return provider.StateDeleting
	case containerExited:
		if suspended {
			return provider.StateSuspended
		}
	case containerCreated, containerDead:
	default:
		return provider.StateCreating
	}
	// It ended by itself, or whoever made it died before starting it: nobody can use it.
	if g.lives.begin(id, provider.StateDeleting) {
		g.log.Warn("removing an instance whose container does not run", "instance", id, "container_state", c.state)
		g.remove(id, c.id)
	}
	return provider.StateDeleting
}

// adopt takes in a running instance that this process did not start.
func (g *InstanceGroup) adopt(ctx context.Context, id string) provider.State {
	// What an instance printed before it was suspended says nothing about now.
	found, err := g.engine.Container(ctx, id)
	if err != nil {
		g.log.Warn("cannot look at an instance, trying again later", "instance", id, "err", err)
		return provider.StateCreating
	}
	if g.readLog(ctx, id, found.startedAt, false) == nil {
		g.lives.begin(id, provider.StateRunning)
		g.log.Info("found a running instance", "instance", id)
		return provider.StateRunning
	}
	g.lives.begin(id, provider.StateCreating)
	g.work.Go(func() {
		g.concludeBoot(id, found.startedAt, g.awaitReady(id, found.startedAt))
	})
	return provider.StateCreating
}

// create makes the container of one new instance, lets it boot, and returns its id.
func (g *InstanceGroup) create(ctx context.Context, seed string) (string, error) {
	begun := time.Now()
	id := newInstanceID(g.shape.name)
	hostKey, err := sshkey.New()
	if err != nil {
		return "", err
	}
	files := []file{{path: hostKeyPath, mode: 0o600, content: hostKey.Private}}
	if g.key.Public != "" {
		files = append(files, g.authorizedKeys())
		g.lives.authorize(id)
	}
	if g.shape.engineConfig != nil {
		files = append(files, file{path: engineConfigPath, mode: 0o644, content: g.shape.engineConfig})
	}

	g.lives.begin(id, provider.StateCreating)
	if _, err := g.engine.Create(ctx, g.instanceSpec(id, hostKey.Public, seed)); err != nil {
		g.lives.end(id, provider.StateCreating, "")
		return "", fmt.Errorf("creating the container of instance %q: %w", id, err)
	}
	g.work.Go(func() { g.boot(id, begun, files) })
	return id, nil
}

func (g *InstanceGroup) instanceSpec(id, hostKey, seed string) spec {
	s := spec{
		name:    id,
		image:   g.shape.image,
		command: []string{"run"},
		labels: map[string]string{
			labelGroup:   g.shape.name,
			labelRole:    roleInstance,
			labelHostKey: hostKey,
		},
		network:    g.shape.network,
		memory:     g.shape.memory,
		nanoCPUs:   g.shape.nanoCPUs,
		privileged: *g.shape.privileged,
		data:       true,
		seed:       seed,
	}
	if g.shape.bootDelay > 0 {
		s.env = []string{"INSTANCE_BOOT_DELAY=" + strconv.FormatFloat(g.shape.bootDelay.Seconds(), 'f', 3, 64)}
	}
	return s
}

// boot starts a created container and waits until the instance is up.
func (g *InstanceGroup) boot(id string, begun time.Time, files []file) {
	err := g.engine.Put(g.ctx, id, files)
	if err == nil {
		err = g.engine.Start(g.ctx, id)
	}
	if err != nil {
		err = fmt.Errorf("starting its container: %w", err)
		// Nobody but this process knows the container's files are missing.
		if g.lives.end(id, provider.StateCreating, provider.StateDeleting) {
			g.log.Error("an instance failed to boot", "instance", id, "err", err)
			g.removeNow(id, id)
		}
		return
	}
	g.concludeBoot(id, begun, g.awaitReady(id, time.Time{}))
}

// awaitStarted waits until an instance that was started again is up.
func (g *InstanceGroup) awaitStarted(id string) error {
	found, err := g.engine.Container(g.ctx, id)
	if err != nil {
		return fmt.Errorf("asking for its container: %w", err)
	}
	return g.awaitReady(id, found.startedAt)
}

// concludeBoot notes the end of a boot and removes an instance that did not come up.
func (g *InstanceGroup) concludeBoot(id string, begun time.Time, err error) {
	switch {
	case err == nil:
		if g.lives.end(id, provider.StateCreating, provider.StateRunning) {
			g.log.Info("instance is up", "instance", id, "took", time.Since(begun).Round(time.Millisecond).String())
		}
	case g.ctx.Err() != nil:
		// The next process will find it and wait for it.
		g.lives.end(id, provider.StateCreating, "")
	case g.lives.end(id, provider.StateCreating, provider.StateDeleting):
		g.log.Error("an instance failed to boot", "instance", id, "err", err)
		g.removeNow(id, id)
	}
}

// awaitReady waits until an instance has come up since a time (zero: ever).
func (g *InstanceGroup) awaitReady(id string, since time.Time) error {
	ctx, cancel := context.WithTimeoutCause(g.ctx, bootTimeout+g.shape.bootDelay, errBootTimeout)
	defer cancel()
	return g.readLog(ctx, id, since, true)
}

// readLog returns nil once the log of an instance holds the ready line.
func (g *InstanceGroup) readLog(ctx context.Context, id string, since time.Time, follow bool) error {
	log, err := g.engine.Log(ctx, id, since, follow)
	if err != nil {
		return fmt.Errorf("reading its log: %w", err)
	}
	defer log.Close()
	seen := &tail{limit: outputTail}
	lines := bufio.NewScanner(io.TeeReader(io.LimitReader(log, maxBootLog), seen))
	for lines.Scan() {
		if lines.Text() == readyLine {
			return nil
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("reading its log: %w", err)
	}
	return errors.New("it ended during its boot: " + seen.String())
}

// remove removes an instance's container in the background.
func (g *InstanceGroup) remove(id, containerID string) {
	g.work.Go(func() { g.removeNow(id, containerID) })
}

// removeNow removes the container, given by id or name, of an instance whose state is Deleting. A
// failure is forgotten, so
// that the instance is found again and somebody can ask again.
func (g *InstanceGroup) removeNow(id, container string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.ctx), cleanupTimeout)
	defer cancel()
	if err := g.engine.Remove(ctx, container); err != nil {
		g.log.Error("cannot remove an instance's container", "instance", id, "err", err)
		g.lives.end(id, provider.StateDeleting, "")
	}
}
