package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// reportDotenv is the one report that other jobs of a pipeline read.
const reportDotenv = "dotenv"

func (c *compiler) artifacts(job *Job, value any) error {
	if value == nil {
		return nil
	}
	m, ok := value.(*mapping)
	if !ok {
		return errors.New("has to be a mapping")
	}
	archive := spec.Artifact{Type: "archive", Format: "zip", When: spec.WhenOnSuccess}
	for _, key := range m.keys {
		if err := c.artifactKey(job, &archive, key, m.get(key)); err != nil {
			return in(key, err)
		}
	}
	if len(archive.Paths) > 0 || archive.Untracked {
		job.Artifacts = append(job.Artifacts, archive)
	}
	return nil
}

func (c *compiler) artifactKey(job *Job, archive *spec.Artifact, key string, value any) (err error) {
	switch key {
	case "name":
		archive.Name, err = text(value)
	case "paths":
		archive.Paths, err = texts(value)
	case "exclude":
		archive.Exclude, err = texts(value)
	case "untracked":
		archive.Untracked, err = boolean(value)
	case "when":
		archive.When, err = after(value)
	case "reports":
		err = c.reports(job, value)
	case "expire_in", "expose_as", "public", "access":
		c.warn("artifacts:%s has no effect here: artifacts go with the run", key)
	default:
		err = errors.New("is not known")
	}
	return err
}

func (c *compiler) reports(job *Job, value any) error {
	m, ok := value.(*mapping)
	if !ok {
		return errors.New("has to be a mapping")
	}
	for _, kind := range m.keys {
		if kind != reportDotenv {
			c.warn("artifacts:reports:%s has no effect here: nobody reads the report", kind)
			continue
		}
		paths, err := texts(m.get(kind))
		if err != nil {
			return in(kind, err)
		}
		job.Artifacts = append(job.Artifacts, spec.Artifact{
			Name: ".env", Paths: paths, When: spec.WhenAlways, Type: reportDotenv, Format: "gzip",
		})
	}
	return nil
}

func after(value any) (spec.When, error) {
	name, err := text(value)
	if err != nil {
		return "", err
	}
	when := spec.When(name)
	if !slices.Contains([]spec.When{spec.WhenOnSuccess, spec.WhenOnFailure, spec.WhenAlways}, when) {
		return "", fmt.Errorf("%q is not known: use on_success, on_failure or always", name)
	}
	return when, nil
}

func (c *compiler) caches(job *Job, value any) error {
	for i, entry := range flat(value) {
		m, ok := entry.(*mapping)
		if !ok {
			return fmt.Errorf("cache %d is not a mapping, but %s", i+1, describe(entry))
		}
		if len(m.keys) == 0 {
			continue
		}
		cache := spec.Cache{Key: "default", Policy: "pull-push", When: spec.WhenOnSuccess}
		for _, key := range m.keys {
			if err := c.cacheKey(&cache, key, m.get(key)); err != nil {
				return in(key, err)
			}
		}
		job.Cache = append(job.Cache, cache)
	}
	return nil
}

func (c *compiler) cacheKey(cache *spec.Cache, key string, value any) (err error) {
	switch key {
	case "key":
		if m, ok := value.(*mapping); ok {
			cache.Key, err = c.keyOfFiles(m)
		} else if value != nil {
			cache.Key, err = text(value)
		}
	case "paths":
		cache.Paths, err = texts(value)
	case "untracked":
		cache.Untracked, err = boolean(value)
	case "policy":
		cache.Policy, err = text(value)
	case "when":
		cache.When, err = after(value)
	case "fallback_keys":
		cache.FallbackKeys, err = texts(value)
	case "unprotect":
		c.warn("cache:unprotect has no effect here: there are no protected branches")
	default:
		err = errors.New("is not known")
	}
	return err
}

// keyOfFiles is a key that changes with the content of files.
func (c *compiler) keyOfFiles(m *mapping) (string, error) {
	for _, key := range m.keys {
		if key != "files" && key != "prefix" {
			return "", fmt.Errorf("%s is not supported", key)
		}
	}
	files, err := texts(m.get("files"))
	if err != nil {
		return "", in("files", err)
	}
	name := "default"
	sum := sha256.New()
	for _, file := range files {
		content, err := c.options.Read(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", in("files", err)
		}
		fmt.Fprintf(sum, "%s\x00%d\x00", file, len(content))
		sum.Write(content)
		name = ""
	}
	if name == "" {
		name = hex.EncodeToString(sum.Sum(nil)[:20])
	}
	if !m.has("prefix") {
		return name, nil
	}
	prefix, err := text(m.get("prefix"))
	return prefix + "-" + name, in("prefix", err)
}
