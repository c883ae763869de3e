package googlecloud

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"google.golang.org/api/compute/v1"

	"gitlab.com/gitlab-org/gitlab-runner/plugins/internal/heartbeat"
	"gitlab.com/gitlab-org/gitlab-runner/plugins/internal/sshkey"
)

const (
	// maxSize is how many instances a managed instance group can have.
	maxSize = 2000
	// createBatch and deleteBatch are how many instances one call takes.
	createBatch = 1000
	deleteBatch = 1000
	// createTries is how often instances are asked for, under one name each, until an answer comes.
	createTries = 2
	// nameLimit is how long the name of an instance may be.
	nameLimit = 63
)

// InstanceGroup is a managed instance group. Its configuration is decoded into the embedded Config before Init.
type InstanceGroup struct {
	Config
	// Version and BuildInfo describe the plugin's binary in ProviderInfo.
	Version   string `json:"-"`
	BuildInfo string `json:"-"`

	log      hclog.Logger
	settings provider.Settings
	calls    calls
	// key is the operator's, or one made for this process; empty if the operator looks after credentials.
	key sshkey.Pair
	now func() time.Time

	mu sync.Mutex
	// links are the addresses of the instances in the API, by their names.
	links map[string]string
	// told are the failures of instances that the operator was told of.
	told map[string]string
	// let are the instances that know the key.
	let map[string]admission
}

// admission says which machine knows the key, and until when. The group may make an instance anew under its name, and
// the new machine knows nothing.
type admission struct {
	machine uint64
	until   time.Time
}

var _ provider.InstanceGroup = (*InstanceGroup)(nil)

// Init finds the group and warns of what will hurt.
func (g *InstanceGroup) Init(ctx context.Context, logger hclog.Logger, settings provider.Settings) (provider.ProviderInfo, error) {
	if err := g.check(); err != nil {
		return provider.ProviderInfo{}, err
	}
	g.log, g.settings, g.now = logger.With("group", g.Name, "project", g.Project, "zone", g.Zone), settings, time.Now
	g.links, g.told, g.let = map[string]string{}, map[string]string{}, map[string]admission{}
	var err error
	if g.key, err = sshkey.For(settings.ConnectorConfig); err != nil {
		return provider.ProviderInfo{}, err
	}
	// The connection outlives this call.
	if g.calls, err = open(context.WithoutCancel(ctx), g.Config); err != nil {
		return provider.ProviderInfo{}, err
	}
	group, err := g.calls.group(ctx)
	if isStatus(err, http.StatusNotFound) {
		return provider.ProviderInfo{}, fmt.Errorf("plugin_config name: there is no managed instance group %q in project %q, %q: %w", g.Name, g.Project, g.Zone, err)
	}
	if err != nil {
		return provider.ProviderInfo{}, fmt.Errorf("getting instance group %q: %w", g.Name, err)
	}
	g.inspect(ctx, group)
	return provider.ProviderInfo{
		ID:        path.Join("google", g.Project, g.Zone, g.Name),
		MaxSize:   maxSize,
		Version:   g.Version,
		BuildInfo: g.BuildInfo,
	}, nil
}

// list returns all instances of the group.
func (g *InstanceGroup) list(ctx context.Context) ([]*compute.ManagedInstance, error) {
	var all []*compute.ManagedInstance
	for page := ""; ; {
		some, next, err := g.calls.managed(ctx, page)
		if err != nil {
			return nil, fmt.Errorf("listing the instances of group %q: %w", g.Name, err)
		}
		all = append(all, some...)
		if page = next; page == "" {
			break
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.links = map[string]string{}
	for _, one := range all {
		g.links[nameOf(one)] = one.Instance
	}
	maps.DeleteFunc(g.let, func(name string, _ admission) bool { return g.links[name] == "" })
	maps.DeleteFunc(g.told, func(name, _ string) bool { return g.links[name] == "" })
	return all, nil
}

func nameOf(one *compute.ManagedInstance) string {
	if one.Name != "" {
		return one.Name
	}
	return path.Base(one.Instance)
}

// Update reports all instances of the group.
func (g *InstanceGroup) Update(ctx context.Context, fn func(instance string, state provider.State)) error {
	all, err := g.list(ctx)
	if err != nil {
		return err
	}
	for _, one := range all {
		g.tell(one)
		fn(nameOf(one), stateOf(one))
	}
	return nil
}

// stateOf translates what the group does with an instance, and the state of its machine.
func stateOf(one *compute.ManagedInstance) provider.State {
	switch one.CurrentAction {
	case "CREATING", "CREATING_WITHOUT_RETRIES":
		return provider.StateCreating
	case "DELETING", "ABANDONING", "RECREATING", "RESTARTING", "STOPPING", "SUSPENDING":
		return provider.StateDeleting
	}
	switch one.InstanceStatus {
	case "RUNNING":
		return provider.StateRunning
	case "STOPPING", "TERMINATED", "STOPPED", "SUSPENDING", "SUSPENDED", "REPAIRING":
		// A spot instance ends so.
		return provider.StateDeleting
	default:
		return provider.StateCreating
	}
}

// tell tells the operator, once for each instance and fault, why an instance does not come.
func (g *InstanceGroup) tell(one *compute.ManagedInstance) {
	if one.LastAttempt == nil || one.LastAttempt.Errors == nil {
		return
	}
	for _, fault := range one.LastAttempt.Errors.Errors {
		g.mu.Lock()
		known := g.told[nameOf(one)] == fault.Code
		g.told[nameOf(one)] = fault.Code
		g.mu.Unlock()
		if !known {
			g.log.Warn("the group cannot make an instance and goes on trying", "instance", nameOf(one), "code", fault.Code, "message", fault.Message)
		}
	}
}

// Increase has the group make n instances with names of our own: an answer that was lost can be asked for again, and
// what came of it can be counted. A new size of the group would say neither.
func (g *InstanceGroup) Increase(ctx context.Context, n int) (int, error) {
	made := 0
	for made < n {
		wanted := min(n-made, createBatch)
		some, err := g.create(ctx, wanted)
		made += some
		if err != nil {
			return made, fmt.Errorf("creating %d instances in group %q: %w", wanted, g.Name, err)
		}
	}
	return made, nil
}

// create has the group make n instances by one request. It returns how many there will be.
func (g *InstanceGroup) create(ctx context.Context, n int) (int, error) {
	names := make([]string, n)
	for i := range names {
		names[i] = newName(g.Name)
	}
	request := uuid.NewString()
	var err error
	for try := range createTries {
		if err = g.calls.create(ctx, names, request); err == nil {
			return n, nil
		}
		if ctx.Err() != nil || refused(err) {
			if try == 0 {
				return 0, err
			}
			// A refusal says nothing about the request before it, whose answer was lost.
			break
		}
	}
	all, listErr := g.list(ctx)
	if listErr != nil {
		return 0, errors.Join(err, listErr)
	}
	made := 0
	for _, one := range all {
		if slices.Contains(names, nameOf(one)) {
			made++
		}
	}
	if made == n {
		return n, nil
	}
	return made, err
}

// newName is a name that nobody else uses.
func newName(group string) string {
	random := make([]byte, 5)
	_, _ = rand.Read(random) // never fails
	suffix := "-" + hex.EncodeToString(random)
	return strings.TrimRight(group[:min(len(group), nameLimit-len(suffix))], "-") + suffix
}

// Decrease deletes instances, in few calls. Those that are gone already are passed over by Google.
func (g *InstanceGroup) Decrease(ctx context.Context, instances []string) ([]string, error) {
	if len(instances) == 0 {
		return nil, nil
	}
	links, err := g.linksOf(ctx, instances)
	if err != nil {
		return nil, err
	}
	var succeeded []string
	var errs []error
	for batch := range slices.Chunk(instances, deleteBatch) {
		var addresses []string
		for _, name := range batch {
			if link := links[name]; link != "" {
				addresses = append(addresses, link)
			}
		}
		if len(addresses) > 0 {
			if err := g.calls.remove(ctx, addresses); err != nil {
				errs = append(errs, fmt.Errorf("deleting %d instances of group %q: %w", len(addresses), g.Name, err))
				continue
			}
		}
		succeeded = append(succeeded, batch...)
	}
	return succeeded, errors.Join(errs...)
}

// linksOf returns the addresses of instances in the API; one that is not there has none.
func (g *InstanceGroup) linksOf(ctx context.Context, names []string) (map[string]string, error) {
	known := g.known()
	for _, name := range names {
		if known[name] == "" {
			if _, err := g.list(ctx); err != nil {
				return nil, err
			}
			return g.known(), nil
		}
	}
	return known, nil
}

func (g *InstanceGroup) known() map[string]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.links)
}

// zoneOf is the zone of an instance, by its address in the API: .../zones/<zone>/instances/<name>.
func (g *InstanceGroup) zoneOf(ctx context.Context, name string) (string, error) {
	links, err := g.linksOf(ctx, []string{name})
	if err != nil {
		return "", err
	}
	parts := strings.Split(links[name], "/")
	for i, part := range parts {
		if part == "zones" && i+1 < len(parts) {
			return parts[i+1], nil
		}
	}
	return "", fmt.Errorf("group %q: %w %q", g.Name, errNoInstance, name)
}

var errNoInstance = errors.New("it has no instance")

// Heartbeat asks Compute Engine for the status of an instance.
func (g *InstanceGroup) Heartbeat(ctx context.Context, instance string) error {
	asking, stop := context.WithTimeout(ctx, heartbeat.Limit)
	defer stop()
	zone, err := g.zoneOf(asking, instance)
	if errors.Is(err, errNoInstance) {
		return fmt.Errorf("%w: %w", provider.ErrInstanceUnhealthy, err)
	}
	if err != nil {
		return heartbeat.Unanswered(ctx, g.log, instance, err)
	}
	found, err := g.calls.instance(asking, zone, instance)
	if isStatus(err, http.StatusNotFound) {
		return fmt.Errorf("%w: instance %q is gone", provider.ErrInstanceUnhealthy, instance)
	}
	if err != nil {
		return heartbeat.Unanswered(ctx, g.log, instance, fmt.Errorf("asking for the status of instance %q: %w", instance, err))
	}
	if found.Status != "RUNNING" {
		return fmt.Errorf("%w: instance %q is %s", provider.ErrInstanceUnhealthy, instance, found.Status)
	}
	return nil
}

// Suspend is not supported: a group restarts what it did not stop itself.
func (g *InstanceGroup) Suspend(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Resume is not supported.
func (g *InstanceGroup) Resume(context.Context, []string) ([]string, error) {
	return nil, provider.ErrSuspendResumeNotSupported
}

// Shutdown has nothing to undo.
func (g *InstanceGroup) Shutdown(context.Context) error { return nil }
