package rig

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
)

// catchUpTimeout bounds the wait for what the engine tells of what it has done.
const catchUpTimeout = 30 * time.Second

// Life is one instance, as the local engine told of it.
type Life struct {
	Name string
	// Address is the instance's, empty before its start.
	Address string
	// Volumes are those that nobody but the instance uses.
	Volumes []string
	// What has not happened yet has no time. Between Started and Ended the address is the instance's own.
	Created, Started, Ended, Destroyed time.Time
}

// Fleet follows the instances of a group by what the local engine tells, so that none is missed however
// short its life. It is safe for concurrent use.
type Fleet struct {
	group  string
	engine *client.Client
	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	lives   []*Life
	changed chan struct{}
	err     error
}

// Follow begins to follow a group. The rig ends it.
func (r *Rig) Follow(group string) (*Fleet, error) {
	engine, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("reaching the local engine: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Fleet{group: group, engine: engine, cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{})}
	// With a time in the past the engine has begun to tell when it answers: nothing falls in between.
	told, failed := engine.Events(ctx, events.ListOptions{
		Since:   fmt.Sprint(time.Now().Unix()),
		Filters: f.filters(filters.Arg("type", string(events.ContainerEventType))),
	})
	go f.follow(ctx, told, failed)
	r.fleets = append(r.fleets, f)
	return f, nil
}

func (f *Fleet) follow(ctx context.Context, told <-chan events.Message, failed <-chan error) {
	defer close(f.ended)
	for {
		select {
		case message := <-told:
			f.note(ctx, message)
		case err := <-failed:
			f.mu.Lock()
			defer f.mu.Unlock()
			if !errors.Is(err, context.Canceled) {
				f.err = fmt.Errorf("following the instances of group %s: %w", f.group, err)
			}
			return
		}
	}
}

func (f *Fleet) note(ctx context.Context, message events.Message) {
	name, at := instanceName(message.Actor.Attributes["name"]), time.Unix(0, message.TimeNano)
	var address string
	var volumes []string
	if message.Action == events.ActionCreate || message.Action == events.ActionStart {
		// An instance that is gone already has nothing that could be looked at.
		if found, err := f.engine.ContainerInspect(ctx, message.Actor.ID); err == nil {
			for _, network := range found.NetworkSettings.Networks {
				address = network.IPAddress
			}
			for _, mount := range found.Mounts {
				if mount.RW && mount.Name != "" {
					volumes = append(volumes, mount.Name)
				}
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if message.Action == events.ActionCreate {
		f.lives = append(f.lives, &Life{Name: name, Created: at, Volumes: volumes})
	}
	for _, life := range f.lives {
		switch {
		case life.Name != name:
		case message.Action == events.ActionStart:
			life.Address, life.Started = address, at
		case message.Action == events.ActionDie:
			life.Ended = at
		case message.Action == events.ActionDestroy:
			life.Destroyed = at
		}
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// Lives are the instances that there are and were, in the order of their creation. What the engine has
// done before the call is seen.
func (f *Fleet) Lives() []Life {
	f.catchUp()
	return f.told()
}

// catchUp waits until the engine has told of what its listing shows: it tells a little after it acts.
func (f *Fleet) catchUp() {
	ctx, cancel := context.WithTimeout(context.Background(), catchUpTimeout)
	defer cancel()
	before := alive(f.told())
	listed, err := f.listed(ctx)
	for err == nil {
		f.mu.Lock()
		changed := f.changed
		f.mu.Unlock()
		known, now := f.told(), alive(f.told())
		behind := slices.ContainsFunc(listed, func(name string) bool {
			return !slices.ContainsFunc(known, func(l Life) bool { return l.Name == name })
		}) || slices.ContainsFunc(before, func(name string) bool {
			return !slices.Contains(listed, name) && slices.Contains(now, name)
		})
		if !behind {
			return
		}
		select {
		case <-changed:
		case <-f.ended:
			return
		case <-ctx.Done():
			err = fmt.Errorf("the engine lists %v and tells of %v", listed, now)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = errors.Join(f.err, fmt.Errorf("catching up with the instances of group %s: %w", f.group, err))
}

// listed are the names of the instances that the engine shows.
func (f *Fleet) listed(ctx context.Context) ([]string, error) {
	found, err := f.engine.ContainerList(ctx, container.ListOptions{All: true, Filters: f.filters()})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range found {
		for _, name := range c.Names {
			names = append(names, instanceName(name))
		}
	}
	return names, nil
}

// instanceName is the instance of a container, which is called otherwise while it is suspended.
func instanceName(container string) string {
	return strings.TrimSuffix(strings.TrimPrefix(container, "/"), ".suspended")
}

func (f *Fleet) filters(more ...filters.KeyValuePair) filters.Args {
	return filters.NewArgs(append(more, filters.Arg("label", groupLabel+"="+f.group), filters.Arg("label", instanceLabel))...)
}

// told is what is known without asking.
func (f *Fleet) told() []Life {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]Life, len(f.lives))
	for i, life := range f.lives {
		out[i] = *life
	}
	return out
}

// Alive are the names of the instances that there are.
func (f *Fleet) Alive() []string {
	return alive(f.Lives())
}

func alive(lives []Life) []string {
	var names []string
	for _, life := range lives {
		if life.Destroyed.IsZero() {
			names = append(names, life.Name)
		}
	}
	return names
}

// Most is how many instances there were at once, at most.
func (f *Fleet) Most() int {
	lives := f.Lives()
	most := 0
	for _, one := range lives {
		now := 0
		for _, other := range lives {
			if !other.Created.After(one.Created) && (other.Destroyed.IsZero() || other.Destroyed.After(one.Created)) {
				now++
			}
		}
		most = max(most, now)
	}
	return most
}

// Await waits until the function accepts what became of the instances.
func (f *Fleet) Await(ctx context.Context, accept func([]Life) bool) error {
	for {
		f.mu.Lock()
		changed, err := f.changed, f.err
		f.mu.Unlock()
		if err != nil {
			return err
		}
		if accept(f.told()) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for the instances of group %s, now %v: %w", f.group, alive(f.told()), context.Cause(ctx))
		}
	}
}

// RemoveInstances removes what there is of the groups that the rig follows, for a test that killed who would have.
func (r *Rig) RemoveInstances() error {
	var errs []error
	for _, fleet := range r.fleets {
		errs = append(errs, fleet.remove())
	}
	return errors.Join(errs...)
}

func (f *Fleet) remove() error {
	names, err := Instances(f.group)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, KillInstance(name))
	}
	return errors.Join(errs...)
}

// remains are the containers and volumes of the group that are still there.
func (f *Fleet) remains() ([]string, error) {
	left, err := listed("container", "ps", "--all", "--filter", "label="+groupLabel+"="+f.group, "--format", "{{.Names}}")
	if err != nil {
		return nil, err
	}
	volumes, err := listed("volume", "volume", "ls", "--format", "{{.Name}}")
	if err != nil {
		return nil, err
	}
	for _, life := range f.Lives() {
		for _, name := range life.Volumes {
			if slices.Contains(volumes, "volume "+name) {
				left = append(left, fmt.Sprintf("volume %s of instance %s", name, life.Name))
			}
		}
	}
	return left, nil
}

// close ends the following.
func (f *Fleet) close() error {
	f.cancel()
	<-f.ended
	return errors.Join(f.err, f.engine.Close())
}

// listed runs a docker command that lists names, and puts a kind before each.
func listed(kind string, args ...string) ([]string, error) {
	list, err := output("docker", args...)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.FieldsSeq(list) {
		names = append(names, kind+" "+name)
	}
	return names, nil
}
