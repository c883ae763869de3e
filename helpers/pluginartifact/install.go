package pluginartifact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"oras.land/oras-go/v2/content"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

// Installed is a version of a plugin in the plugin directory.
type Installed struct {
	Version string
	// Path is the executable.
	Path string
	// Already says that the version was there before.
	Already bool
}

// Install installs the version of a plugin that a reference names below dir, whole or not at all.
// Former versions stay. A version that is there is not fetched again.
func (s *Source) Install(ctx context.Context, ref plugindir.Reference, p Platform, dir string) (Installed, error) {
	root, err := s.resolve(ctx, ref)
	if err != nil {
		return Installed{}, err
	}
	found, err := s.layerFor(ctx, root, p)
	if err != nil {
		return Installed{}, fmt.Errorf("plugin %s in the %s: %w", ref, s.place, err)
	}
	if !ref.Matches(found.version) {
		return Installed{}, fmt.Errorf("plugin %s: the %s has version %s under this name, which would not be found: name the version", ref, s.place, found.version)
	}
	target, err := ref.VersionPath(dir, found.version)
	if err != nil {
		return Installed{}, err
	}
	installed := Installed{Version: found.version, Path: filepath.Join(target, executableOf(p))}
	if isFile(installed.Path) {
		installed.Already = true
		return installed, nil
	}
	if err := s.unpack(ctx, found, p, dir, target); err != nil {
		return Installed{}, fmt.Errorf("installing plugin %s %s: %w", ref, found.version, err)
	}
	return installed, nil
}

const (
	unpackedPrefix = ".install-"
	// abandoned is the age at which what a killed process unpacked is taken for that.
	abandoned = 24 * time.Hour
)

// unpack fetches the layer into a directory beside the others and puts it in its place.
func (s *Source) unpack(ctx context.Context, l layer, p Platform, dir, target string) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	sweep(dir)
	temp, err := os.MkdirTemp(dir, unpackedPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	unpacked := filepath.Join(temp, "version")
	if err := os.Mkdir(unpacked, 0o755); err != nil {
		return err
	}
	if err := s.fetchLayer(ctx, l, unpacked); err != nil {
		return err
	}
	executable := filepath.Join(unpacked, executableOf(p))
	if !isFile(executable) {
		return fmt.Errorf("the layer has no file %s", executableOf(p))
	}
	if err := checkExecutable(executable, p); err != nil {
		return fmt.Errorf("%s: %w", executableOf(p), err)
	}
	if err := os.Chmod(executable, 0o755); err != nil {
		return err
	}
	return place(unpacked, target, executableOf(p))
}

// fetchLayer unpacks a layer and verifies it as it goes by.
func (s *Source) fetchLayer(ctx context.Context, l layer, into string) error {
	body, err := s.store.Fetch(ctx, l.Descriptor)
	if err != nil {
		return fmt.Errorf("fetching the layer %s: %w", l.Digest, err)
	}
	defer body.Close()
	verified := content.NewVerifyReader(body, l.Descriptor)
	unpacking := extract(verified, into)
	if err := drain(verified); err != nil {
		return errors.Join(fmt.Errorf("fetching the layer %s: %w", l.Digest, err), unpacking)
	}
	// A layer that is not what it should be explains why it could not be unpacked.
	if err := verified.Verify(); err != nil {
		return errors.Join(fmt.Errorf("the layer is not the one that the manifest names: %w", err), unpacking)
	}
	return unpacking
}

// place moves an unpacked version to its place. What stands there without an executable is a former
// failure of somebody's.
func place(unpacked, target, executable string) error {
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	err := os.Rename(unpacked, target)
	if err == nil || isFile(filepath.Join(target, executable)) {
		return nil // or another process was faster
	}
	if removeErr := os.RemoveAll(target); removeErr != nil {
		return errors.Join(err, removeErr)
	}
	return os.Rename(unpacked, target)
}

// sweep removes what killed processes left behind. What cannot be removed hurts nobody.
func sweep(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && strings.HasPrefix(entry.Name(), unpackedPrefix) && time.Since(info.ModTime()) > abandoned {
			_ = os.RemoveAll(filepath.Join(dir, entry.Name()))
		}
	}
}

func executableOf(p Platform) string {
	if p.OS == "windows" {
		return "plugin.exe"
	}
	return "plugin"
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
