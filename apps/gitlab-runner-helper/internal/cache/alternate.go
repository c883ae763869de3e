package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// takeAlternate gives a local archive that has its alternate name the one that is asked for.
func takeAlternate(key plan.CacheKey) error {
	if key.AlternateFile == "" {
		return nil
	}
	if _, err := os.Lstat(key.File); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Lstat(key.AlternateFile); err != nil {
		return nil //nolint:nilerr // there is no such archive
	}
	if err := os.MkdirAll(filepath.Dir(key.File), 0o700); err != nil {
		return fmt.Errorf("making the directory of the archive: %w", err)
	}
	if err := os.Rename(key.AlternateFile, key.File); err != nil {
		return fmt.Errorf("renaming the archive: %w", err)
	}
	return nil
}

// fetch downloads the newer one of an object and its alternate to a new file, unless that is not newer than
// local. It asks for both at once, so that an alternate costs no time.
func (c *Cache) fetch(ctx context.Context, key plan.CacheKey, limit time.Duration, store *os.Root, local time.Time) (temporary string, modified time.Time, err error) {
	object := newRemote(key.Remote, limit, c.Meter, c.Retry)
	defer object.close()
	archive := filepath.Base(key.File)
	c.Console.Print("Downloading %s from %s", archive, object.name())
	if key.AlternateRemote == nil {
		return object.fetch(ctx, store, local, nil)
	}
	alternate := newRemote(key.AlternateRemote, limit, c.Meter, c.Retry)
	defer alternate.close()
	asking, cancel := context.WithCancel(ctx)
	answer := make(chan time.Time, 1)
	go func() { answer <- alternate.modified(asking) }()
	itsTime := sync.OnceValue(func() time.Time { return <-answer })
	defer itsTime()
	defer cancel()

	temporary, modified, err = object.fetch(ctx, store, local, itsTime)
	switch {
	case errors.Is(err, errSuperseded):
	case errors.Is(err, errMissing) && !itsTime().IsZero():
	case errors.Is(err, errNotModified) && itsTime().After(local):
	default:
		return temporary, modified, err
	}
	c.Console.Print("Downloading %s from %s", archive, alternate.name())
	return alternate.fetch(ctx, store, local, nil)
}
