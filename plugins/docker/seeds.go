package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// seedRetention is how long an image store that no container uses is kept.
	seedRetention = 24 * time.Hour

	// A filling container that was created, or has ended, this long ago was left by a process that
	// died.
	startStale = time.Minute
	endStale   = 10 * time.Second

	// seedPoll is the pause between looks at another process's filling container.
	seedPoll = 200 * time.Millisecond

	// seedData is the value of labelSeed on a volume with a store. On a marker it is the name of that
	// volume.
	seedData = "data"
)

// seeds keeps the image store that the instances of a group start with. A store is a volume that is
// filled once for an instance image and a set of images, by whichever process is first, and is then
// mounted read-only by any number of instances of any group.
//
// Every filling goes to a volume of its own. A marker, an empty volume whose name is derived from the
// images and whose label names the filled volume, is made last; so whatever happens, what a marker
// names is complete and never written again. The name of the filling container is derived from the
// images too, which keeps processes from doing the same work at the same time.
type seeds struct {
	engine        engine
	log           hclog.Logger
	shape         shape
	instanceImage string
}

// ensure returns the volume with a complete store; empty if the group has no images to start with.
func (s *seeds) ensure(ctx context.Context) (string, error) {
	if len(s.shape.images) == 0 {
		return "", nil
	}
	name, err := s.name(ctx)
	if err != nil {
		return "", err
	}
	for {
		data, err := s.filled(ctx, name)
		if data != "" || err != nil {
			return data, err
		}
		err = s.fill(ctx, name)
		if errors.Is(err, errNameTaken) {
			err = s.await(ctx, name)
		}
		if err != nil {
			return "", err
		}
	}
}

// name derives the name of the store from the images in it.
func (s *seeds) name(ctx context.Context) (string, error) {
	hash := sha256.New()
	fmt.Fprintln(hash, s.instanceImage)
	for _, reference := range s.shape.images {
		found, err := s.engine.Image(ctx, reference)
		if errors.Is(err, errNotFound) {
			return "", fmt.Errorf("plugin_config images: %q is not on the docker engine; build or pull it first", reference)
		}
		if err != nil {
			return "", fmt.Errorf("asking the docker engine for image %q: %w", reference, err)
		}
		fmt.Fprintln(hash, reference, found.id)
	}
	return "fleeting-seed-" + hex.EncodeToString(hash.Sum(nil)[:8]), nil
}

// filled returns the volume that a marker names; empty if there is none.
func (s *seeds) filled(ctx context.Context, marker string) (string, error) {
	volumes, err := s.volumes(ctx)
	if err != nil {
		return "", err
	}
	found, ok := volumes[marker]
	if !ok {
		return "", nil
	}
	if _, ok := volumes[found.value]; ok {
		return found.value, nil
	}
	if err := s.engine.RemoveVolume(ctx, marker); err != nil {
		return "", fmt.Errorf("removing the marker %s, whose image store is gone: %w", marker, err)
	}
	return "", nil
}

func (s *seeds) volumes(ctx context.Context) (map[string]seedVolume, error) {
	list, err := s.engine.SeedVolumes(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing image stores: %w", err)
	}
	volumes := make(map[string]seedVolume, len(list))
	for _, v := range list {
		volumes[v.name] = v
	}
	return volumes, nil
}

// fill makes a store and its marker, unless there is one by now. It fails with errNameTaken if another
// process is at it.
func (s *seeds) fill(ctx context.Context, name string) error {
	begun := time.Now()
	data := newInstanceID(name)
	filler, err := s.engine.Create(ctx, spec{
		name:       name,
		image:      s.shape.image,
		command:    []string{"seed"},
		labels:     map[string]string{labelGroup: s.shape.name, labelRole: roleSeed},
		network:    "none",
		privileged: *s.shape.privileged,
		seed:       data,
		fillSeed:   true,
		input:      true,
	})
	if err != nil {
		return fmt.Errorf("creating the container that fills image store %s: %w", name, err)
	}
	used := false
	present, err := s.filled(ctx, name)
	if err == nil && present == "" {
		if err = s.feed(ctx, filler); err == nil {
			err = s.engine.CreateSeedVolume(ctx, name, data)
			used = err == nil
		}
	}
	if err != nil {
		err = fmt.Errorf("filling image store %s: %w", name, err)
	}
	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	err = errors.Join(err, s.engine.Remove(cleanup, filler))
	if !used {
		return errors.Join(err, s.engine.RemoveVolume(cleanup, data))
	}
	s.log.Info("image store is ready", "store", name, "images", s.shape.images, "took", time.Since(begun).Round(time.Millisecond).String())
	return err
}

func (s *seeds) feed(ctx context.Context, filler string) error {
	archive, err := s.engine.SaveImages(ctx, s.shape.images)
	if err != nil {
		return fmt.Errorf("saving images %v: %w", s.shape.images, err)
	}
	defer archive.Close()
	status, output, err := s.engine.Feed(ctx, filler, archive)
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("image %q ended with status %d on the command seed: %s", s.shape.image, status, output)
	}
	return nil
}

// await lets another process fill the store, or clears its container away if it died.
func (s *seeds) await(ctx context.Context, name string) error {
	filler, err := s.engine.Container(ctx, name)
	if errors.Is(err, errNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the container that fills image store %s: %w", name, err)
	}
	if stale(filler) {
		s.log.Warn("removing the container of a process that died while it filled an image store", "store", name)
		if err := s.engine.Remove(ctx, filler.id); err != nil {
			return fmt.Errorf("removing the container that filled image store %s: %w", name, err)
		}
		return nil
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("waiting for another process to fill image store %s: %w", name, context.Cause(ctx))
	case <-time.After(seedPoll):
		return nil
	}
}

func stale(filler container) bool {
	switch filler.state {
	case containerCreated:
		return time.Since(filler.createdAt) > startStale
	case containerExited, containerDead:
		return time.Since(filler.endedAt) > endStale
	default:
		return false
	}
}

// prune removes old stores. The engine keeps those that a container uses; one that nothing uses at the
// moment is filled again when it is wanted.
func (s *seeds) prune(ctx context.Context) error {
	keep := ""
	if len(s.shape.images) > 0 {
		name, err := s.name(ctx)
		if err != nil {
			return err
		}
		if keep, err = s.filled(ctx, name); err != nil {
			return err
		}
	}
	volumes, err := s.volumes(ctx)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if v.value != seedData || v.name == keep || time.Since(v.createdAt) < seedRetention {
			continue
		}
		if s.engine.RemoveVolume(ctx, v.name) == nil {
			s.log.Info("removed an old image store", "store", v.name)
			delete(volumes, v.name)
		}
	}
	for _, v := range volumes {
		if _, ok := volumes[v.value]; ok || v.value == seedData {
			continue
		}
		if err := s.engine.RemoveVolume(ctx, v.name); err != nil {
			return fmt.Errorf("removing the marker %s, whose image store is gone: %w", v.name, err)
		}
	}
	return nil
}
