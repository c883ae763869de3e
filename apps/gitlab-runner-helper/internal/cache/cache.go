// Package cache keeps files of a project from one job to the next: in an archive on this machine and,
// with a distributed cache, in an object store.
//
// A cache is never needed: to Restore and Save, what goes wrong is something to tell the user, and the
// only errors are those of a context that ended, but for a NeedsPartsError.
package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/files"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/meter"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/retry"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/archive"
)

const defaultTimeout = 10 * time.Minute

// Cache moves files between a project directory and archives. It is not safe for concurrent use.
type Cache struct {
	Console   *console.Console
	Root      *os.Root
	Collector *files.Collector
	Meter     meter.Meter
	Retry     retry.Policy
}

// Restore unpacks the first archive that one of the keys has.
func (c *Cache) Restore(ctx context.Context, r plan.CacheRestore) error {
	if c.announce(r.Warnings, r.Notice) {
		return nil
	}
	for _, key := range r.Keys {
		c.Console.Notice("Checking cache for %s...", key.Name)
		err := c.Extract(ctx, key, r.TimeoutMinutes)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			c.Console.Notice("Successfully extracted cache")
			return nil
		}
		c.Console.Warning("WARNING: %v", err)
		c.Console.Warning("Failed to extract cache")
		if r.CleanFailed {
			c.remove(r.Paths)
		}
	}
	return nil
}

// Save packs the files and stores the archive. Beside the end of a context, the only error is a NeedsPartsError.
func (c *Cache) Save(ctx context.Context, s plan.CacheSave) error {
	if c.announce(s.Warnings, s.Notice) {
		return nil
	}
	c.Console.Notice("Creating cache %s...", s.Key.Name)
	err := c.Archive(ctx, s)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var large *NeedsPartsError
	if errors.As(err, &large) {
		c.Console.Print("%v", large)
		return large
	}
	if err != nil {
		c.Console.Warning("WARNING: %v", err)
		c.Console.Warning("Failed to create cache")
		return nil
	}
	c.Console.Notice("Created cache")
	return nil
}

// announce says what the runner wants the user to know, and whether that is all there is to do.
func (c *Cache) announce(warnings []string, notice string) (done bool) {
	for _, warning := range warnings {
		c.Console.Warning("%s", warning)
	}
	if notice != "" {
		c.Console.Notice("%s", notice)
	}
	return notice != ""
}

func timeout(minutes int) time.Duration {
	if minutes <= 0 {
		return defaultTimeout
	}
	return time.Duration(minutes) * time.Minute
}

// Extract unpacks the archive of one key. A request to the object store may take so many minutes, ten if
// 0.
func (c *Cache) Extract(ctx context.Context, key plan.CacheKey, timeoutMinutes int) error {
	if err := takeAlternate(key); err != nil {
		return err
	}
	if key.Remote == nil {
		c.Console.Print("No URL provided, cache will not be downloaded from shared cache server. Instead a local version of cache will be extracted.")
	} else if err := c.download(ctx, key, timeout(timeoutMinutes)); err != nil {
		return err
	}
	store, name, err := openStore(key.File)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("cache file does not exist")
	}
	if err != nil {
		return err
	}
	defer store.Close()
	f, _, err := archive.OpenRegular(store, name)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("cache file does not exist")
	}
	if err != nil {
		return fmt.Errorf("opening the cache: %w", err)
	}
	defer f.Close()
	err = archive.Extract(ctx, f, c.Root, archive.ExtractOptions{Skipped: func(name, reason string) {
		c.Console.Warning("WARNING: %s is left out: %s", name, reason)
	}})
	if err != nil {
		return fmt.Errorf("unpacking the cache: %w", err)
	}
	return nil
}

// download brings the local archive up to date with the remote one.
func (c *Cache) download(ctx context.Context, key plan.CacheKey, limit time.Duration) error {
	if err := usable(key.Remote); err != nil {
		return err
	}
	store, name, err := makeStore(key.File)
	if err != nil {
		return err
	}
	defer store.Close()
	var local time.Time
	if info, err := store.Lstat(name); err == nil && info.Mode().IsRegular() {
		local = info.ModTime()
	}
	temporary, modified, err := c.fetch(ctx, key, limit, store, local)
	switch {
	case errors.Is(err, errNotModified):
		c.Console.Print("%s is up to date", name)
		return nil
	case err != nil:
		return fmt.Errorf("downloading the cache: %w", err)
	}
	// What is known of the archive before does not hold for this one.
	_ = store.Remove(metadataFile)
	if err := store.Rename(temporary, name); err != nil {
		_ = store.Remove(temporary)
		return fmt.Errorf("keeping the downloaded cache: %w", err)
	}
	if modified.IsZero() {
		return nil
	}
	if err := store.Chtimes(name, modified, modified); err != nil {
		return fmt.Errorf("setting the time of the cache: %w", err)
	}
	return nil
}

// remove removes what the patterns of a cache match, after an archive was unpacked in part.
func (c *Cache) remove(patterns []string) {
	for _, pattern := range patterns {
		pattern = filepath.ToSlash(filepath.Clean(c.Collector.Expand(pattern)))
		if !filepath.IsLocal(pattern) || pattern == "." || !doublestar.ValidatePattern(pattern) {
			continue
		}
		matches, err := doublestar.Glob(c.Root.FS(), pattern, doublestar.WithNoFollow())
		if err != nil {
			continue
		}
		for _, name := range matches {
			if err := c.Root.RemoveAll(name); err != nil {
				c.Console.Warning("WARNING: removing %s: %v", name, err)
			}
		}
	}
}
