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
	return e.helperSource().get(ctx, log, e.plan.Helper)
}

func (e *executor) helperSource() *helperSource {
	return &helperSource{
		engine: e.engine, machine: e.machine, dirs: e.provider.helperDirs, getter: e.images, log: e.log,
	}
}

// carryHelper puts the runner's own helper into an image of the user's, by a volume that is filled once
// per machine. Where the default image is not at hand, the image must have a helper of its own.
func (e *executor) carryHelper(ctx context.Context) error {
	wanted := e.plan.Helper
	if e.helper.program != "" {
		return nil
	}
	if !wanted.Carried {
		e.helper.program = blueprint.HelperProgram
		return nil
	}
	image, err := e.helperSource().withoutPull(ctx, wanted)
	if errors.Is(err, fs.ErrNotExist) {
		e.log.WithField("image", wanted.Name).Info("the default helper image is not at hand: the configured one must have a helper of its own")
		e.helper.program = blueprint.HelperProgram
		return nil
	}
	if err != nil {
		return err
	}
	volume := blueprint.HelperVolume(image.ID)
	if _, filled := e.machine.helper(volume); !filled {
		err := e.machine.pulls.Do(ctx, "volume "+volume, func() error { return e.fillVolume(ctx, volume, image) })
		if err != nil {
			return fmt.Errorf("copying the helper into the volume %s: %w", volume, err)
		}
		e.machine.sawHelper(volume, image)
	}
	e.helper.program = e.plan.CarryHelper(volume)
	return nil
}

func (e *executor) fillVolume(ctx context.Context, volume string, image images.Image) error {
	filler := e.plan.FillVolume(volume, image.Reference())
	id, err := e.create(ctx, filler)
	if err != nil {
		return err
	}
	if err := e.engine.ContainerRemove(ctx, id, false); err != nil {
		return err
	}
	e.made.dropContainer(filler.Name)
	return nil
}

// get returns the helper image, which is on the engine then. What was found once on a machine is not
// looked for again.
func (s *helperSource) get(ctx context.Context, log images.Log, wanted blueprint.Helper) (images.Image, error) {
	if wanted.Overridden() {
		log.Print("Using helper image:  %s  (overridden, default would be  %s )", wanted.Name, wanted.Default.Name)
		return s.getter.Get(ctx, log, wanted.Request)
	}
	found, err := s.withoutPull(ctx, wanted)
	if errors.Is(err, fs.ErrNotExist) {
		log.Print("Using helper image:  %s", wanted.Name)
		return s.getter.Get(ctx, log, wanted.Request)
	}
	return found, err
}

// withoutPull returns the default helper image if it is on the engine or in a bundled archive, which is
// loaded then. Otherwise the error is fs.ErrNotExist.
func (s *helperSource) withoutPull(ctx context.Context, wanted blueprint.Helper) (images.Image, error) {
	name := wanted.Default.Name
	if found, ok := s.machine.helper(name); ok {
		return found, nil
	}
	local := images.Request{Name: name, Policies: []images.Policy{images.Never}}
	found, err := s.getter.Look(ctx, local)
	if docker.IsNotFound(err) {
		found, err = s.bundled(ctx, local, wanted.Archives)
	}
	if err != nil {
		return images.Image{}, fmt.Errorf("preparing the helper image %s: %w", name, err)
	}
	s.machine.sawHelper(name, found)
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
		if _, err := s.getter.Look(ctx, wanted); err == nil {
			return nil // another job loaded it since this one looked
		}
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
