package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/files"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/archive"
)

// Archive packs the files unless the local archive has them, and uploads the archive. That there are no
// files is told to the user and no error.
func (c *Cache) Archive(ctx context.Context, s plan.CacheSave) error {
	if s.Key.Remote != nil {
		if err := usable(s.Key.Remote); err != nil {
			return err
		}
	}
	names, err := c.Collector.Collect(ctx, files.Request{Paths: s.Paths, Untracked: s.Untracked, Verbose: s.Verbose})
	if err != nil {
		return fmt.Errorf("collecting files: %w", err)
	}
	if len(names) == 0 {
		c.Console.Warning("WARNING: No files to cache.")
		return nil
	}
	if err := takeAlternate(s.Key); err != nil {
		return err
	}
	store, name, err := makeStore(s.Key.File)
	if err != nil {
		return err
	}
	defer store.Close()

	now := survey(c.Root, names)
	if upToDate(store, name, now) {
		return c.sendUnlessThere(ctx, s, store, name)
	}
	if err := c.create(ctx, s, store, name, names); err != nil {
		return err
	}
	if err := writeMetadata(store, metadata{CacheKey: s.Key.Name, Contents: now.digest}); err != nil {
		return err
	}
	return c.send(ctx, s, store, name)
}

// upToDate says whether the local archive has the files as they are. Of an archive that came from
// elsewhere only its time is known.
func upToDate(store *os.Root, name string, now contents) bool {
	info, err := store.Lstat(name)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	if known := readMetadata(store).Contents; known != "" {
		return known == now.digest
	}
	return !now.newest.After(info.ModTime())
}

func (c *Cache) create(ctx context.Context, s plan.CacheSave, store *os.Root, name string, names []string) error {
	level, err := archive.ParseLevel(s.CompressionLevel)
	if err != nil {
		c.Console.Warning("WARNING: CACHE_COMPRESSION_LEVEL: %v", err)
		level = archive.Default
	}
	format := archive.Zip
	if f := archive.Format(s.Format); f == archive.TarZstd || f == archive.ZipZstd {
		format = f
	}
	temporary := ".archive-" + rand.Text()
	f, err := store.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making the archive: %w", err)
	}
	err = archive.Create(ctx, f, c.Root, names, archive.Options{Format: format, Level: level, Skipped: func(name, reason string) {
		c.Console.Warning("WARNING: %s is left out: %s", name, reason)
	}})
	err = errors.Join(err, f.Close())
	if err == nil {
		err = store.Rename(temporary, name)
	}
	if err != nil {
		_ = store.Remove(temporary)
		return fmt.Errorf("making the archive: %w", err)
	}
	return nil
}

// sendUnlessThere uploads an archive that has not changed, if the object store does not have it.
func (c *Cache) sendUnlessThere(ctx context.Context, s plan.CacheSave, store *os.Root, name string) error {
	if s.Key.Remote != nil {
		remote := newRemote(s.Key.Remote, timeout(s.TimeoutMinutes), c.Meter, c.Retry)
		defer remote.close()
		if _, there := remote.head(ctx); !there {
			return c.send(ctx, s, store, name)
		}
	}
	c.Console.Print("Archive is up to date!")
	return nil
}

func (c *Cache) send(ctx context.Context, s plan.CacheSave, store *os.Root, name string) error {
	if s.Key.Remote == nil {
		c.Console.Print("No URL provided, cache will not be uploaded to shared cache server. Cache will be stored only locally.")
		return nil
	}
	f, info, err := archive.OpenRegular(store, name)
	if err != nil {
		return fmt.Errorf("opening the archive: %w", err)
	}
	defer f.Close()
	if s.MaxUploadBytes > 0 && info.Size() > s.MaxUploadBytes {
		c.Console.Print("Cache archive size (%d) is larger than the maximum of %d: it is not uploaded and stays on this machine", info.Size(), s.MaxUploadBytes)
		return nil
	}
	remote := newRemote(s.Key.Remote, timeout(s.TimeoutMinutes), c.Meter, c.Retry)
	defer remote.close()
	c.Console.Print("Uploading %s to %s", name, remote.name())
	stored, err := remote.store(ctx, f, info)
	if err != nil {
		return fmt.Errorf("uploading the cache: %w", err)
	}
	if stored.IsZero() {
		return nil
	}
	// The next job here must not download what it has.
	if err := store.Chtimes(name, stored, stored); err != nil {
		return fmt.Errorf("setting the time of the cache: %w", err)
	}
	return nil
}
