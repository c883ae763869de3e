package common

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
	"unicode"

	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// SanitizeCacheKey makes a key a relative path that stays below its base. ok is false when nothing is
// left of it.
func SanitizeCacheKey(key string) (clean string, ok bool) {
	clean = strings.NewReplacer("%2f", "/", "%2F", "/", "%2e", ".", "%2E", ".", `\`, "/").Replace(key)
	clean = strings.TrimPrefix(path.Clean("/"+clean), "/")
	for clean != "" {
		dir, last := path.Split(clean)
		last = strings.TrimRightFunc(last, unicode.IsSpace)
		if last != "" && last != "." && last != ".." {
			return dir + last, true
		}
		clean = strings.TrimRight(dir, "/")
	}
	return "", false
}

// cacheName is the key of a cache: as the user sees it, as it stands in paths, and as it would stand there if
// FF_HASH_CACHE_KEYS were the other way, empty if it could not.
type cacheName struct {
	human, file, alternate string
}

// cacheName resolves a key. The warning, if any, is for the user; ok is false if the key is of no use.
func (b *Build) cacheName(key string) (name cacheName, warning string, ok bool) {
	// The names that stand in for a key may contain what looks like a reference.
	raw := path.Join(b.job.Spec.Info.Name, b.job.Spec.Git.Ref)
	if key != "" {
		raw = b.job.Variables.ExpandValue(key)
	}
	clean, usable := SanitizeCacheKey(raw)
	if b.hashedCacheKeys() {
		return cacheName{human: raw, file: hashCacheKey(raw), alternate: clean}, "", raw != ""
	}
	if !usable {
		return cacheName{}, fmt.Sprintf("cache key %q could not be sanitized", raw), false
	}
	if clean != raw {
		warning = fmt.Sprintf("cache key %q sanitized to %q", raw, clean)
	}
	return cacheName{human: clean, file: clean, alternate: hashCacheKey(raw)}, warning, true
}

func (b *Build) hashedCacheKeys() bool {
	return b.job.Flags.IsOn(featureflags.HashCacheKeys)
}

func hashCacheKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// cacheObject is the name of a cache's remote object.
func (b *Build) cacheObject(file string, hashed bool) (string, error) {
	config := b.job.Runner.Cache
	base := config.Path
	if !config.Shared {
		base = path.Join(base, "runner", b.job.Runner.ShortToken())
	}
	base = path.Join(base, "project", fmt.Sprint(b.job.Spec.Info.ProjectID))
	name := file
	if hashed {
		name = path.Join(file[:2], file)
	}
	object := path.Join(base, name)
	if !strings.HasPrefix(object, base+"/") {
		return "", fmt.Errorf("cache key %q leaves the project's folder", file)
	}
	return object, nil
}

func (b *Build) cacheFile(file string) string {
	return path.Join(b.job.CacheDir, file, "cache.zip")
}

// cacheKey is where a cache is. Download finds remote objects, upload is nil for who only looks for a cache.
func (b *Build) cacheKey(ctx context.Context, name cacheName, download, upload locateObject) plan.CacheKey {
	key := plan.CacheKey{Name: name.human, File: b.cacheFile(name.file)}
	if name.alternate != "" {
		key.AlternateFile = b.cacheFile(name.alternate)
	}
	switch {
	case upload != nil:
		key.Remote = b.remote(ctx, name.file, b.hashedCacheKeys(), upload)
	case download != nil:
		key.Remote = b.remote(ctx, name.file, b.hashedCacheKeys(), download)
		if name.alternate != "" && key.Remote != nil {
			key.AlternateRemote = b.remote(ctx, name.alternate, !b.hashedCacheKeys(), download)
		}
	}
	return key
}

// cachePolicy returns whether an entry is to be restored and saved.
func (b *Build) cachePolicy(c spec.Cache) (pull, push bool, err error) {
	switch policy := b.job.Variables.ExpandValue(c.Policy); policy {
	case "", "pull-push":
		return true, true, nil
	case "pull":
		return true, false, nil
	case "push":
		return false, true, nil
	default:
		return false, false, Fail(RunnerConfigurationError, fmt.Errorf("unknown cache policy %q: use pull-push, pull or push", policy))
	}
}

func (b *Build) cacheRestore(ctx context.Context, c spec.Cache) (plan.CacheRestore, error) {
	pull, _, err := b.cachePolicy(c)
	if err != nil {
		return plan.CacheRestore{}, err
	}
	restore := plan.CacheRestore{
		TimeoutMinutes: b.job.Settings.CacheRequestTimeout,
		Paths:          c.Paths,
		CleanFailed:    b.job.Flags.IsOn(featureflags.CleanUpFailedCacheExtract),
	}
	name, warning, ok := b.cacheName(c.Key)
	if warning != "" {
		restore.Warnings = append(restore.Warnings, warning)
	}
	switch {
	case !ok:
		restore.Notice = "Skipping cache extraction due to empty cache key"
		return restore, nil
	case !pull:
		restore.Notice = fmt.Sprintf("Not downloading cache %s due to policy", name.human)
		return restore, nil
	}
	names := []cacheName{name}
	for _, key := range b.fallbackKeys(c, &restore.Warnings) {
		name, warning, ok := b.cacheName(key)
		if warning != "" {
			restore.Warnings = append(restore.Warnings, warning)
		}
		if ok {
			names = append(names, name)
		}
	}
	var download locateObject
	if b.options.RemoteCache != nil {
		download = b.options.RemoteCache.Download
	}
	for _, name := range names {
		restore.Keys = append(restore.Keys, b.cacheKey(ctx, name, download, nil))
	}
	return restore, nil
}

// fallbackKeys are the keys to try after the entry's own. The runner-wide one must not reach into the
// caches of protected refs.
func (b *Build) fallbackKeys(c spec.Cache, warnings *[]string) []string {
	keys := append([]string(nil), c.FallbackKeys...)
	fallback := b.job.Variables.ExpandValue(b.job.Settings.CacheFallbackKey)
	if fallback == "" {
		return keys
	}
	// The key as it will stand in paths counts too: sanitizing may bring the ending about.
	clean := fallback
	if !b.job.Flags.IsOn(featureflags.HashCacheKeys) {
		clean, _ = SanitizeCacheKey(fallback)
	}
	if isProtectedKey(fallback) || isProtectedKey(clean) {
		*warnings = append(*warnings, fmt.Sprintf("CACHE_FALLBACK_KEY %q is not allowed: it ends in -protected", fallback))
		return keys
	}
	return append(keys, fallback)
}

func isProtectedKey(key string) bool {
	return strings.HasSuffix(strings.TrimRight(key, ". "), "-protected")
}

// uploadObject finds where an object is to be uploaded to.
type uploadObject func(ctx context.Context, object, key string, ttl time.Duration) (plan.Remote, error)

// uploadObject is that of an object which one request takes.
func (b *Build) uploadObject(ctx context.Context, object, key string, ttl time.Duration) (plan.Remote, error) {
	return b.options.RemoteCache.Upload(ctx, object, key, ttl)
}

func (b *Build) cacheSave(ctx context.Context, c spec.Cache, upload uploadObject) (plan.CacheSave, error) {
	_, push, err := b.cachePolicy(c)
	if err != nil {
		return plan.CacheSave{}, err
	}
	save := plan.CacheSave{
		TimeoutMinutes:   b.job.Settings.CacheRequestTimeout,
		Paths:            c.Paths,
		Untracked:        c.Untracked,
		CompressionLevel: b.job.Settings.CacheCompressionLevel,
		Format:           b.job.Settings.CacheCompressionFormat,
	}
	name, warning, ok := b.cacheName(c.Key)
	if warning != "" {
		save.Warnings = append(save.Warnings, warning)
	}
	switch {
	case !ok:
		save.Notice = "Skipping cache archiving due to empty cache key"
		return save, nil
	case !push:
		save.Notice = fmt.Sprintf("Not uploading cache %s due to policy", name.human)
		return save, nil
	}
	if b.job.Runner.Cache != nil {
		save.MaxUploadBytes = b.job.Runner.Cache.MaxUploadedArchiveSize
	}
	var locate locateObject
	if b.options.RemoteCache != nil {
		locate = func(ctx context.Context, object string, ttl time.Duration) (plan.Remote, error) {
			return upload(ctx, object, name.human, ttl)
		}
	}
	save.Key = b.cacheKey(ctx, name, nil, locate)
	return save, nil
}

// remote asks for the place of a remote object. Without one the job goes on with its local cache.
func (b *Build) remote(ctx context.Context, file string, hashed bool, locate locateObject) *plan.Remote {
	object, err := b.cacheObject(file, hashed)
	if err == nil {
		var place plan.Remote
		if place, err = locate(ctx, object, b.timeout()); err == nil {
			return &place
		}
	}
	if !errors.Is(err, context.Canceled) {
		b.options.Log.WithError(err).Error("the distributed cache cannot be used: the job goes on without it")
	}
	return nil
}
