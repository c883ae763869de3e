package docker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/internal/sshkey"
)

const (
	// bootTimeout bounds a boot, from the start of the container to both servers answering.
	bootTimeout = 2 * time.Minute

	// cleanupTimeout bounds removals that outlive the call that asked for them.
	cleanupTimeout = time.Minute

	// parallelCreates is how many containers the engine is asked to create at once.
	parallelCreates = 8

	sshPort = 22

	hostKeyPath        = "/etc/ssh/instance/host_key"
	authorizedKeysPath = "/etc/ssh/instance/authorized_keys"
	engineConfigPath   = "/etc/docker/daemon.json"
)

var errShutdown = errors.New("the plugin shuts down")

// InstanceGroup is a group of instances on the local engine. Its configuration is decoded into the
// embedded Config before Init.
type InstanceGroup struct {
	Config
	// Version and BuildInfo describe the plugin's binary in ProviderInfo.
	Version   string `json:"-"`
	BuildInfo string `json:"-"`

	engine   engine
	log      hclog.Logger
	shape    shape
	settings provider.Settings
	arch     string
	// key opens every instance; it is empty if the operator looks after credentials.
	key   sshkey.Pair
	seeds *seeds
	lives *lives

	// The work that outlives a call: boots, removals, suspensions.
	ctx    context.Context
	cancel context.CancelCauseFunc
	work   *sync.WaitGroup
}

var _ provider.InstanceGroup = (*InstanceGroup)(nil)

// Init checks the configuration, finds out what kind of container the engine can run, and prepares
// the image store that instances start with.
func (g *InstanceGroup) Init(ctx context.Context, logger hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	shape, err := g.Config.shape()
	if err != nil {
		return provider.ProviderInfo{}, err
	}
	if err := checkConnector(settings.ConnectorConfig); err != nil {
		return provider.ProviderInfo{}, err
	}
	g.shape, g.settings, g.log = shape, settings, logger.With("group", shape.name)
	if g.key, err = sshkey.For(settings.ConnectorConfig); err != nil {
		return provider.ProviderInfo{}, err
	}
	if g.engine == nil {
		if g.engine, err = openMoby(); err != nil {
			return provider.ProviderInfo{}, err
		}
	}
	if err := g.prepare(ctx); err != nil {
		return provider.ProviderInfo{}, errors.Join(err, g.engine.Close())
	}
	g.lives = newLives()
	g.work = &sync.WaitGroup{}
	// The group's work is bounded by Shutdown, not by the call of Init.
	g.ctx, g.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return provider.ProviderInfo{
		ID:           path.Join("docker", shape.name),
		MaxSize:      shape.maxSize,
		Version:      g.Version,
		BuildInfo:    g.BuildInfo,
		Capabilities: []provider.Capability{provider.CapabilitySuspendResume},
	}, nil
}

// prepare looks at the engine and makes it ready for instances.
func (g *InstanceGroup) prepare(ctx context.Context) error {
	found, err := g.engine.Image(ctx, g.shape.image)
	if errors.Is(err, errNotFound) {
		return fmt.Errorf("plugin_config image: %q is not on the docker engine; build or pull it first", g.shape.image)
	}
	if err != nil {
		return fmt.Errorf("asking the docker engine for image %q: %w", g.shape.image, err)
	}
	g.arch = found.arch
	if err := removeProbes(ctx, g.engine, g.shape.name); err != nil {
		return err
	}
	privileged, err := choosePrivilege(ctx, g.engine, g.shape)
	if err != nil {
		return err
	}
	g.shape.privileged = &privileged
	g.seeds = &seeds{engine: g.engine, log: g.log, shape: g.shape, instanceImage: found.id}
	if err := g.seeds.prune(ctx); err != nil {
		g.log.Warn("cannot remove old image stores", "err", err)
	}
	_, err = g.seeds.ensure(ctx)
	return err
}

// Update reports all instances of the group. It also finds instances that an earlier process left,
// and removes containers that ended by themselves.
func (g *InstanceGroup) Update(ctx context.Context, fn func(instance string, state provider.State)) error {
	// The order matters: what the listing says of an instance is outdated if this process worked on
	// it in the meantime.
	before := g.lives.all()
	found, err := g.engine.Containers(ctx, g.shape.name, roleInstance)
	if err != nil {
		return fmt.Errorf("listing the instances of group %q: %w", g.shape.name, err)
	}
	present := make(map[string]bool, len(found))
	for _, c := range found {
		id, suspended := instanceOf(c.name)
		present[id] = true
		fn(id, g.observe(ctx, id, before[id], c, suspended))
	}
	g.lives.forget(present)
	return nil
}

// Increase creates up to n containers and returns; they boot on their own.
func (g *InstanceGroup) Increase(ctx context.Context, n int) (int, error) {
	if n <= 0 {
		return 0, nil
	}
	found, err := g.engine.Containers(ctx, g.shape.name, roleInstance)
	if err != nil {
		return 0, fmt.Errorf("listing the instances of group %q: %w", g.shape.name, err)
	}
	var errs []error
	if free := max(g.shape.maxSize-g.staying(found), 0); n > free {
		errs = append(errs, fmt.Errorf("group %q has room for %d of %d more instances (max_size %d)", g.shape.name, free, n, g.shape.maxSize))
		n = free
	}
	if n == 0 {
		return 0, errors.Join(errs...)
	}
	seed, err := g.seeds.ensure(ctx)
	if err != nil {
		return 0, errors.Join(append(errs, err)...)
	}

	results := make(chan error)
	slots := make(chan struct{}, parallelCreates)
	for range n {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			_, err := g.create(ctx, seed)
			results <- err
		}()
	}
	succeeded := 0
	for range n {
		if err := <-results; err != nil {
			errs = append(errs, err)
			continue
		}
		succeeded++
	}
	return succeeded, errors.Join(errs...)
}

// Launch creates one instance and returns its id, for those who use the group as a library. Whether it boots
// is told by Update.
func (g *InstanceGroup) Launch(ctx context.Context) (string, error) {
	seed, err := g.seeds.ensure(ctx)
	if err != nil {
		return "", err
	}
	return g.create(ctx, seed)
}

// Decrease removes containers. It returns before they are gone.
func (g *InstanceGroup) Decrease(ctx context.Context, instances []string) ([]string, error) {
	if len(instances) == 0 {
		return nil, nil
	}
	found, err := g.containersByInstance(ctx)
	if err != nil {
		return nil, err
	}
	for _, id := range instances {
		c, ok := found[id]
		if ok && g.lives.begin(id, provider.StateDeleting) {
			g.log.Info("deleting instance", "instance", id)
			g.remove(id, c.id)
		}
	}
	return instances, nil
}

// ConnectInfo returns how to reach an instance.
func (g *InstanceGroup) ConnectInfo(ctx context.Context, instance string) (provider.ConnectInfo, error) {
	c, err := g.container(ctx, instance)
	if err != nil {
		return provider.ConnectInfo{}, err
	}
	if c.state != containerRunning || c.address == "" {
		return provider.ConnectInfo{}, fmt.Errorf("instance %q has no address: its container is %s", instance, c.state)
	}
	if err := g.authorize(ctx, instance); err != nil {
		return provider.ConnectInfo{}, err
	}
	info := provider.ConnectInfo{
		ConnectorConfig: g.settings.ConnectorConfig,
		ID:              instance,
		ExternalAddr:    c.address,
		InternalAddr:    c.address,
		HostKeys:        []string{c.hostKey},
	}
	info.OS = "linux"
	info.Protocol = provider.ProtocolSSH
	if info.Arch == "" {
		info.Arch = g.arch
	}
	if info.ProtocolPort == 0 {
		info.ProtocolPort = sshPort
	}
	if info.Username == "" {
		info.Username = defaultUsername
	}
	if len(info.Key) == 0 {
		info.Key = g.key.Private
	}
	return info, nil
}

// Heartbeat asks the engine whether the instance's container runs.
func (g *InstanceGroup) Heartbeat(ctx context.Context, instance string) error {
	c, err := g.container(ctx, instance)
	if err != nil {
		return fmt.Errorf("%w: %w", provider.ErrInstanceUnhealthy, err)
	}
	if c.state != containerRunning {
		return fmt.Errorf("%w: the container of instance %q is %s", provider.ErrInstanceUnhealthy, instance, c.state)
	}
	return nil
}

// Shutdown ends the group's own work. Instances stay; those whose container has not been started yet
// are removed.
func (g *InstanceGroup) Shutdown(ctx context.Context) error {
	g.cancel(errShutdown)
	done := make(chan struct{})
	go func() {
		g.work.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("waiting for containers to be removed: %w", context.Cause(ctx))
	}
	return errors.Join(err, g.engine.Close())
}

// container finds the container of an instance that is not suspended.
func (g *InstanceGroup) container(ctx context.Context, instance string) (container, error) {
	c, err := g.engine.Container(ctx, instance)
	if err == nil && (c.group != g.shape.name || c.role != roleInstance) {
		err = errNotFound
	}
	if errors.Is(err, errNotFound) {
		return container{}, fmt.Errorf("group %q has no running instance %q", g.shape.name, instance)
	}
	if err != nil {
		return container{}, fmt.Errorf("asking the docker engine for instance %q: %w", instance, err)
	}
	return c, nil
}

// staying counts the instances that are not being deleted.
func (g *InstanceGroup) staying(found []container) int {
	n := 0
	for _, c := range found {
		if id, _ := instanceOf(c.name); g.lives.state(id) != provider.StateDeleting {
			n++
		}
	}
	return n
}

func (g *InstanceGroup) containersByInstance(ctx context.Context) (map[string]container, error) {
	found, err := g.engine.Containers(ctx, g.shape.name, roleInstance)
	if err != nil {
		return nil, fmt.Errorf("listing the instances of group %q: %w", g.shape.name, err)
	}
	byInstance := make(map[string]container, len(found))
	for _, c := range found {
		id, _ := instanceOf(c.name)
		byInstance[id] = c
	}
	return byInstance, nil
}

// authorize gives an instance that an earlier process made this process's key.
func (g *InstanceGroup) authorize(ctx context.Context, instance string) error {
	if g.key.Public == "" || g.lives.authorized(instance) {
		return nil
	}
	if err := g.engine.Put(ctx, instance, []file{g.authorizedKeys()}); err != nil {
		return fmt.Errorf("giving instance %q the new ssh key: %w", instance, err)
	}
	g.lives.authorize(instance)
	return nil
}

func (g *InstanceGroup) authorizedKeys() file {
	return file{path: authorizedKeysPath, mode: 0o644, content: []byte(g.key.Public + "\n")}
}

// newInstanceID returns a name nobody else uses.
func newInstanceID(group string) string {
	random := make([]byte, 5)
	_, _ = rand.Read(random) // never fails
	return group + "-" + hex.EncodeToString(random)
}
