package docker

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
)

// services are the service containers of a job on their way up.
type services struct {
	executor *executor
	list     []*service
}

// service is one of them. What start finds out is set when start has returned.
type service struct {
	blueprint.Service
	turn  *turn
	image images.Image
	id    string
	// addresses are the container's, empty if it shares the network of something else or has ended.
	addresses []netip.Addr
	ended     bool
	exitCode  int
}

// Limits of waiting for services.
const (
	defaultServicesTimeout = 30 * time.Second
	addressPoll            = 100 * time.Millisecond
	// portLimit is how many ports of one service are tried.
	portLimit = 20
	// shortID is how much of a container's ID is its name for others.
	shortID = 12
)

func (e *executor) newServices(shown *turns) *services {
	s := &services{executor: e}
	for _, described := range e.plan.Services {
		s.list = append(s.list, &service{Service: described, turn: shown.next()})
	}
	return s
}

// timeout is how long services may take to become ready; negative means that nobody waits.
func (s *services) timeout() time.Duration {
	seconds := s.executor.job.Runner.Docker.WaitForServicesTimeout
	if seconds == 0 {
		return defaultServicesTimeout
	}
	return time.Duration(seconds) * time.Second
}

// needHelper says whether readiness is asked for, which is done from the helper container.
func (s *services) needHelper() bool { return len(s.list) > 0 && s.timeout() >= 0 }

// start gets the images and starts the containers, all side by side.
func (s *services) start(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, one := range s.list {
		group.Go(func() error {
			defer one.turn.close()
			return s.startOne(ctx, one)
		})
	}
	return group.Wait()
}

func (s *services) startOne(ctx context.Context, one *service) error {
	e := s.executor
	one.turn.Print("Starting service %s...", one.Title())
	found, err := e.images.Get(ctx, one.turn, one.Image)
	if err != nil {
		return err
	}
	one.image = found
	one.id, err = e.create(ctx, blueprint.On(one.Container, found.Reference(), nil))
	if err != nil {
		return fmt.Errorf("creating service %s: %w", one.Title(), err)
	}
	if err := e.engine.ContainerStart(ctx, one.id); err != nil {
		return fmt.Errorf("starting service %s: %w", one.Title(), e.startError(ctx, err))
	}
	if err := s.findAddresses(ctx, one); err != nil {
		return fmt.Errorf("service %s: %w", one.Title(), err)
	}
	if e.debugsServices() {
		e.followLogs(one)
	}
	return nil
}

// findAddresses waits for the container to be more than created.
func (s *services) findAddresses(ctx context.Context, one *service) error {
	limit := max(defaultServicesTimeout, s.timeout())
	deadline := time.Now().Add(limit)
	for {
		answer, err := s.executor.engine.ContainerInspect(ctx, one.id)
		if err != nil {
			return err
		}
		if answer.State != nil && answer.State.Status != container.StateCreated {
			one.addresses = addressesOf(answer)
			one.ended, one.exitCode = !answer.State.Running, answer.State.ExitCode
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("getting exposed ports: service failed to start after %s", limit)
		}
		if err := pause.For(ctx, addressPoll); err != nil {
			return err
		}
	}
}

func addressesOf(answer container.InspectResponse) []netip.Addr {
	if answer.NetworkSettings == nil {
		return nil
	}
	var addresses []netip.Addr
	for _, name := range slices.Sorted(maps.Keys(answer.NetworkSettings.Networks)) {
		endpoint := answer.NetworkSettings.Networks[name]
		if endpoint == nil {
			continue
		}
		for _, text := range []string{endpoint.IPAddress, endpoint.GlobalIPv6Address} {
			if address, err := netip.ParseAddr(text); err == nil {
				addresses = append(addresses, address)
			}
		}
	}
	return addresses
}

// hosts are the lines by which other containers find the services.
func (s *services) hosts() []string {
	var lines []string
	for _, one := range s.list {
		for _, name := range append(slices.Clone(one.Aliases), one.id[:min(shortID, len(one.id))]) {
			for _, address := range one.addresses {
				lines = append(lines, name+":"+address.String())
			}
		}
	}
	return lines
}

// healthPort selects one port of a service.
const healthPort = "HEALTHCHECK_TCP_PORT"

// ports are those on which a service is expected to answer.
func (s *service) ports() ([]int, error) {
	environment := append(slices.Clone(s.image.Env), s.Container.Config.Env...)
	for _, pair := range slices.Backward(environment) {
		key, value, _ := strings.Cut(pair, "=")
		if !strings.EqualFold(key, healthPort) {
			continue
		}
		port, err := strconv.Atoi(value)
		if err != nil || port < 1 || port > 65535 {
			return nil, fmt.Errorf("invalid health check tcp port: %s", value)
		}
		return []int{port}, nil
	}
	var ports []int
	for _, text := range s.image.Ports {
		number, protocol, _ := strings.Cut(text, "/")
		if port, err := strconv.Atoi(number); err == nil && (protocol == "" || protocol == "tcp") {
			ports = append(ports, port)
		}
	}
	slices.Sort(ports)
	return ports[:min(portLimit, len(ports))], nil
}

// debugsServices says whether the user wants to see what services print.
func (e *executor) debugsServices() bool {
	return e.job.Settings.DebugServices && !e.job.Runner.DebugTraceDisabled
}
