package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// helperSource gets the helper image onto an engine.
type helperSource struct {
	engine  engine
	machine *machine
	// dirs are searched for bundled archives.
	dirs   []string
	getter *images.Getter
	log    logrus.FieldLogger
}

// helperImage gets the job's helper image.
func (e *executor) helperImage(ctx context.Context, log images.Log) (images.Image, error) {
	source := helperSource{
		engine: e.engine, machine: e.machine, dirs: e.provider.helperDirs, getter: e.images, log: e.log,
	}
	return source.get(ctx, log, e.plan.Helper)
}

// get returns the helper image, which is on the engine then: it was there, or a bundled archive is
// loaded, or it is pulled. What was found once on a machine is not looked for again.
func (s *helperSource) get(ctx context.Context, log images.Log, wanted blueprint.Helper) (images.Image, error) {
	if wanted.Overridden != "" {
		log.Print("Using helper image:  %s  (overridden, default would be  %s )", wanted.Name, wanted.Overridden)
		return s.getter.Get(ctx, log, wanted.Request)
	}
	if found, ok := s.machine.helper(wanted.Name); ok {
		return found, nil
	}
	local := images.Request{Name: wanted.Name, Policies: []images.Policy{images.Never}}
	found, err := s.getter.Look(ctx, local)
	if docker.IsNotFound(err) {
		if found, err = s.bundled(ctx, local, wanted.Archives); errors.Is(err, fs.ErrNotExist) {
			log.Print("Using helper image:  %s", wanted.Name)
			return s.getter.Get(ctx, log, wanted.Request)
		}
	}
	if err != nil {
		return images.Image{}, fmt.Errorf("preparing the helper image %s: %w", wanted.Name, err)
	}
	s.machine.sawHelper(wanted.Name, found)
	return found, nil
}

// bundled loads the first archive that there is, once for all jobs that want it at the same time.
// Without one the error is fs.ErrNotExist.
func (s *helperSource) bundled(ctx context.Context, wanted images.Request, names []string) (images.Image, error) {
	archive, err := findArchive(s.dirs, names)
	if err != nil {
		return images.Image{}, err
	}
	err = s.machine.pulls.Do(ctx, "archive "+archive, func() error {
		s.log.WithField("archive", archive).Info("loading the bundled helper image")
		return s.load(ctx, archive, wanted.Name)
	})
	if err != nil {
		return images.Image{}, fmt.Errorf("loading %s: %w", archive, err)
	}
	return s.getter.Look(ctx, wanted)
}

func findArchive(dirs, names []string) (string, error) {
	for _, dir := range dirs {
		for _, name := range names {
			path := filepath.Join(dir, name)
			switch _, err := os.Stat(path); {
			case err == nil:
				return path, nil
			case !errors.Is(err, fs.ErrNotExist):
				return "", fmt.Errorf("looking for a bundled helper image: %w", err)
			}
		}
	}
	return "", fs.ErrNotExist
}

// load loads an archive of an image under the name that is wanted.
func (s *helperSource) load(ctx context.Context, archive, name string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	decompressed, err := zstd.NewReader(file)
	if err != nil {
		return fmt.Errorf("decompressing: %w", err)
	}
	defer decompressed.Close()
	loaded, err := s.engine.ImageLoad(ctx, decompressed)
	if err != nil || loaded == name {
		return err
	}
	return s.engine.ImageTag(ctx, loaded, name)
}
