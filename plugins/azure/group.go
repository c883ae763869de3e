package azure

import (
	"context"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v7"
	"github.com/hashicorp/go-hclog"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/internal/heartbeat"
)

// operationPause is how long to wait between two looks at an operation of Azure's, unless Azure says.
const operationPause = 15 * time.Second

var errShutdown = errors.New("the plugin shuts down")

// InstanceGroup is a scale set. Its configuration is decoded into the embedded Config before Init.
type InstanceGroup struct {
	Config
	// Version and BuildInfo describe the plugin's binary in ProviderInfo.
	Version   string `json:"-"`
	BuildInfo string `json:"-"`

	log      hclog.Logger
	settings provider.Settings
	clients  *clients
	members  members
	model    model
	growth   growth

	// pause is how long to wait between two looks at an operation, retryDelay the wait before the first
	// repetition of a request; 0 selects the defaults.
	pause, retryDelay time.Duration

	mu sync.Mutex
	// doomed are stranded members whose deletion was asked for.
	doomed map[string]bool

	// The watches of operations outlive the call that began them.
	ctx    context.Context
	cancel context.CancelCauseFunc
	work   *sync.WaitGroup
}

var _ provider.InstanceGroup = (*InstanceGroup)(nil)

// Init finds the scale set and warns of what will hurt.
func (g *InstanceGroup) Init(ctx context.Context, logger hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	if err := g.Config.check(settings); err != nil {
		return provider.ProviderInfo{}, err
	}
	g.log, g.settings = logger.With("group", g.Name), settings
	if g.pause == 0 {
		g.pause = operationPause
	}
	if g.retryDelay == 0 {
		g.retryDelay = defaultRetryDelay
	}
	if g.clients == nil {
		var err error
		if g.clients, err = newClients(g.Config, g.retryDelay); err != nil {
			return provider.ProviderInfo{}, err
		}
	}
	set, err := g.scaleSet(ctx)
	if gone(err) {
		return provider.ProviderInfo{}, fmt.Errorf("plugin_config name: there is no scale set %q in resource group %q of subscription %q: %w",
			g.Name, g.ResourceGroupName, g.SubscriptionID, err)
	}
	if err != nil {
		return provider.ProviderInfo{}, err
	}
	g.model = newModel(set)
	if g.model.flexible {
		g.members = &flexible{clients: g.clients, group: g.ResourceGroupName, setID: deref(set.ID)}
	} else {
		g.members = &uniform{clients: g.clients, group: g.ResourceGroupName, name: g.Name}
	}
	if settings.Username == "" && g.model.admin == "" {
		return provider.ProviderInfo{}, errors.New("connector_config username: must be set, as the scale set does not say who its administrator is")
	}
	g.inspect(ctx, set)
	g.doomed = map[string]bool{}
	g.work = &sync.WaitGroup{}
	g.ctx, g.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	return provider.ProviderInfo{
		ID:        path.Join("azure", g.SubscriptionID, g.ResourceGroupName, g.Name),
		MaxSize:   g.model.maxSize,
		Version:   g.Version,
		BuildInfo: g.BuildInfo,
	}, nil
}

func (g *InstanceGroup) scaleSet(ctx context.Context) (armcompute.VirtualMachineScaleSet, error) {
	answer, err := g.clients.sets.Get(ctx, g.ResourceGroupName, g.Name, nil)
	if err != nil {
		return armcompute.VirtualMachineScaleSet{}, fmt.Errorf("looking at scale set %q: %w", g.Name, plain(err))
	}
	return answer.VirtualMachineScaleSet, nil
}

// Update reports all machines of the scale set. Those that do not run and never will by themselves are
// reported as being deleted, and deleted: spot machines that were evicted and kept, and those that Azure
// could not start.
func (g *InstanceGroup) Update(ctx context.Context, fn func(instance string, state provider.State)) error {
	found, err := g.members.list(ctx)
	if err != nil {
		return fmt.Errorf("listing the instances of scale set %q: %w", g.Name, err)
	}
	g.growth.listed(len(found))
	var stranded []string
	g.mu.Lock()
	doomed := map[string]bool{}
	for _, m := range found {
		state, lost := m.state()
		switch {
		case g.doomed[m.id]:
			doomed[m.id] = true
		case lost:
			stranded = append(stranded, m.id)
			g.log.Warn("an instance does not run and is deleted", "instance", m.id, "why", m.fit())
		}
		fn(m.id, state)
	}
	g.doomed = doomed
	g.mu.Unlock()
	if len(stranded) == 0 {
		return nil
	}
	if _, err := g.delete(ctx, stranded); err != nil {
		g.log.Warn("instances that do not run could not be deleted, it is tried again", "err", err)
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range stranded {
		g.doomed[id] = true
	}
	return nil
}

// Decrease asks for the deletion of machines, in one request. What is gone already is no error.
func (g *InstanceGroup) Decrease(ctx context.Context, instances []string) ([]string, error) {
	if len(instances) == 0 {
		return nil, nil
	}
	return g.delete(ctx, instances)
}

// delete asks for deletions. A single machine that is gone spoils the whole request, so what is left of it is
// asked for once more.
func (g *InstanceGroup) delete(ctx context.Context, instances []string) ([]string, error) {
	err := g.beginDelete(ctx, instances)
	if err == nil {
		return instances, nil
	}
	found, listErr := g.members.list(ctx)
	if listErr != nil {
		return nil, errors.Join(fmt.Errorf("deleting instances of scale set %q: %w", g.Name, err), listErr)
	}
	staying := map[string]bool{}
	for _, m := range found {
		if state, lost := m.state(); lost || state != provider.StateDeleting {
			staying[m.id] = true
		}
	}
	var done, left []string
	for _, id := range instances {
		if staying[id] {
			left = append(left, id)
			continue
		}
		done = append(done, id)
	}
	if len(left) == 0 {
		return done, nil
	}
	if len(done) > 0 {
		if err = g.beginDelete(ctx, left); err == nil {
			return instances, nil
		}
	}
	return done, fmt.Errorf("deleting instances of scale set %q: %w", g.Name, err)
}

func (g *InstanceGroup) beginDelete(ctx context.Context, instances []string) error {
	ids := armcompute.VirtualMachineScaleSetVMInstanceRequiredIDs{}
	for _, id := range instances {
		ids.InstanceIDs = append(ids.InstanceIDs, &id)
	}
	operation, err := g.clients.sets.BeginDeleteInstances(ctx, g.ResourceGroupName, g.Name, ids, nil)
	if err != nil {
		return plain(err)
	}
	watch(g, operation, func(err error) {
		if err != nil && !gone(err) {
			g.log.Error("azure could not delete instances, it is asked again", "instances", instances, "err", err)
		}
	})
	return nil
}

// Heartbeat asks Azure whether a machine runs.
func (g *InstanceGroup) Heartbeat(ctx context.Context, instance string) error {
	asking, stop := context.WithTimeout(ctx, heartbeat.Limit)
	defer stop()
	m, err := g.members.member(asking, instance)
	if err != nil && !gone(err) {
		return heartbeat.Unanswered(ctx, g.log, instance, fmt.Errorf("asking for the state of instance %q: %w", instance, err))
	}
	if err == nil {
		err = m.fit()
	}
	if err != nil {
		return fmt.Errorf("%w: instance %q: %w", provider.ErrInstanceUnhealthy, instance, err)
	}
	return nil
}

// Suspend is not possible.
func (g *InstanceGroup) Suspend(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Resume is not possible.
func (g *InstanceGroup) Resume(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Shutdown stops watching what Azure does. Instances stay.
func (g *InstanceGroup) Shutdown(ctx context.Context) error {
	g.cancel(errShutdown)
	done := make(chan struct{})
	go func() {
		g.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the watches of azure's operations to end: %w", context.Cause(ctx))
	}
}
