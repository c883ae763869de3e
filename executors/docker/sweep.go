package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

const (
	// sweepLimit bounds the removal of leftovers.
	sweepLimit = 2 * time.Minute
	// orphanGrace is how long after its job's timeout an object is left alone whose process cannot be
	// asked whether it lives.
	orphanGrace = time.Hour
)

// thisProcess names this process in the labels of what it makes: host, process id and the time of its
// start, so that a later process can tell whether it still lives.
func thisProcess() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return strings.Join([]string{host, strconv.Itoa(os.Getpid()), strconv.FormatInt(time.Now().UnixNano(), 36)}, "/")
}

// sweeper removes what earlier jobs of this manager left on a machine: after a lost connection, or when
// a manager died. What belongs to a job under way is never touched.
type sweeper struct {
	engine  engine
	runner  *config.Runner
	machine *machine
	process string
	log     logrus.FieldLogger
	now     func() time.Time
}

// sweepOnce begins to sweep if the machine is used for the first time or was left untidy. It works
// beside the job.
func (e *executor) sweepOnce() {
	if !e.machine.beginSweep() {
		return
	}
	s := sweeper{
		engine: e.engine, runner: e.job.Runner, machine: e.machine, process: e.provider.process,
		log: e.log, now: time.Now,
	}
	e.background.Go(func() {
		ctx, cancel := context.WithTimeout(e.work, sweepLimit)
		defer cancel()
		s.run(ctx)
	})
}

func (s *sweeper) run(ctx context.Context) {
	removed, err := s.sweep(ctx)
	s.machine.endSweep(err == nil)
	if err != nil && ctx.Err() == nil {
		s.log.WithError(err).Warning("removing leftovers of earlier jobs failed; it is tried again by the next job on the machine")
	}
	if removed > 0 {
		s.log.WithField("removed", removed).Info("removed leftovers of earlier jobs")
	}
}

func (s *sweeper) sweep(ctx context.Context) (int, error) {
	mine := []string{
		blueprint.LabelManaged + "=true",
		blueprint.LabelSystem + "=" + s.runner.SystemID,
		blueprint.LabelRunner + "=" + s.runner.ShortToken(),
	}
	removed := 0
	var errs []error
	count := func(what string, err error) {
		switch {
		case err == nil:
			removed++
		case !docker.IsNotFound(err):
			errs = append(errs, fmt.Errorf("removing %s: %w", what, err))
		}
	}

	containers, err := s.engine.ContainerList(ctx, mine...)
	if err != nil {
		return 0, fmt.Errorf("listing containers: %w", err)
	}
	for _, found := range containers {
		if s.leftover(found.Labels, time.Unix(found.Created, 0)) {
			count("container "+found.ID, s.engine.ContainerRemove(ctx, found.ID, true))
		}
	}
	networks, err := s.engine.NetworkList(ctx, mine...)
	if err != nil {
		return removed, fmt.Errorf("listing networks: %w", err)
	}
	for _, found := range networks {
		if s.leftover(found.Labels, found.Created) {
			count("network "+found.Name, s.engine.NetworkRemove(ctx, found.ID))
		}
	}
	volumes, err := s.engine.VolumeList(ctx, append(mine, blueprint.LabelReusable+"=false")...)
	if err != nil {
		return removed, fmt.Errorf("listing volumes: %w", err)
	}
	for _, found := range volumes {
		created, err := time.Parse(time.RFC3339, found.CreatedAt)
		if err != nil {
			created = s.now()
		}
		if s.leftover(found.Labels, created) {
			count("volume "+found.Name, s.engine.VolumeRemove(ctx, found.Name))
		}
	}
	return removed, errors.Join(errs...)
}

// leftover says whether nobody needs an object any more: its job does not run in this process, and the
// process that made it is this one, or is dead. Where that cannot be known, the job's time must be long
// over.
func (s *sweeper) leftover(labels map[string]string, created time.Time) bool {
	job, err := strconv.ParseInt(labels[blueprint.LabelJob], 10, 64)
	if err != nil {
		return false
	}
	maker := labels[blueprint.LabelManager]
	if maker == s.process {
		return !s.machine.running(job)
	}
	if alive, known := processAlive(s.process, maker); known {
		return !alive
	}
	timeout, err := time.ParseDuration(labels[blueprint.LabelTimeout])
	if err != nil {
		return false
	}
	return s.now().Sub(created) > timeout+orphanGrace
}

// processAlive says whether the process that a label names lives. It is only known of processes on this
// process's own host. A process id that is in use again counts as alive.
func processAlive(own, other string) (alive, known bool) {
	ownParts, otherParts := strings.Split(own, "/"), strings.Split(other, "/")
	if len(ownParts) != 3 || len(otherParts) != 3 || ownParts[0] != otherParts[0] {
		return false, false
	}
	pid, err := strconv.Atoi(otherParts[1])
	if err != nil || pid <= 0 {
		return false, false
	}
	if otherParts[1] == ownParts[1] {
		// This process has that id, and it is not the one that the label names.
		return false, true
	}
	return processExists(pid), true
}
