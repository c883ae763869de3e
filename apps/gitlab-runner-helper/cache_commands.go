package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/cache"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

func cacheFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "file", Usage: "local archive", Required: true},
		&cli.StringFlag{Name: "alternate-file", Usage: "local archive under its former name, used if --file is missing"},
		&cli.StringFlag{Name: "url", Usage: "signed URL of the remote archive"},
		&cli.StringFlag{Name: "gocloud-url", Usage: "URL of the remote archive for temporary credentials"},
		&cli.IntFlag{Name: "timeout", Usage: "minutes that a request may take", Value: 10, Sources: cli.EnvVars("CACHE_REQUEST_TIMEOUT")},
	}
}

func cacheArchiverCommand(c *console.Console) *cli.Command {
	return &cli.Command{
		Name:  "cache-archiver",
		Usage: "pack files into a cache and upload it",
		Flags: append(append(cacheFlags(), fileFlags()...),
			&cli.StringFlag{Name: "check-url", Usage: "signed URL that tells whether the remote archive exists"},
			&cli.StringSliceFlag{Name: "header", Usage: "header of the upload, Name: value"},
			&cli.StringFlag{Name: "compression-level", Sources: cli.EnvVars("CACHE_COMPRESSION_LEVEL")},
			&cli.StringFlag{Name: "compression-format", Sources: cli.EnvVars("CACHE_COMPRESSION_FORMAT")},
			&cli.Int64Flag{Name: "max-uploaded-archive-size", Usage: "bytes, 0 for no limit", Sources: cli.EnvVars("CACHE_MAX_UPLOADED_ARCHIVE_SIZE")},
		),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			p, err := openProject(c)
			if err != nil {
				return err
			}
			defer p.close()
			key, err := cacheKey(cmd, cmd.String("check-url"))
			if err != nil {
				return err
			}
			return p.cache(c).Archive(ctx, plan.CacheSave{
				Key:              key,
				TimeoutMinutes:   cmd.Int("timeout"),
				Paths:            cmd.StringSlice("path"),
				Untracked:        cmd.Bool("untracked"),
				MaxUploadBytes:   cmd.Int64("max-uploaded-archive-size"),
				CompressionLevel: cmd.String("compression-level"),
				Format:           cmd.String("compression-format"),
			})
		},
	}
}

func cacheExtractorCommand(c *console.Console) *cli.Command {
	return &cli.Command{
		Name:  "cache-extractor",
		Usage: "download a cache and unpack it",
		Flags: append(cacheFlags(),
			&cli.StringFlag{Name: "head-url", Usage: "signed URL that tells about the remote archive"},
		),
		Action: func(ctx context.Context, cmd *cli.Command) error {
			p, err := openProject(c)
			if err != nil {
				return err
			}
			defer p.close()
			key, err := cacheKey(cmd, cmd.String("head-url"))
			if err != nil {
				return err
			}
			return p.cache(c).Extract(ctx, key, cmd.Int("timeout"))
		},
	}
}

func (p *project) cache(c *console.Console) *cache.Cache {
	return &cache.Cache{Console: c, Root: p.root, Collector: p.collector}
}

// cacheKey is the archive that the flags name.
func cacheKey(cmd *cli.Command, headURL string) (plan.CacheKey, error) {
	file, err := filepath.Abs(cmd.String("file"))
	if err != nil {
		return plan.CacheKey{}, fmt.Errorf("finding the archive: %w", err)
	}
	if err := takeAlternate(file, cmd.String("alternate-file")); err != nil {
		return plan.CacheKey{}, err
	}
	key := plan.CacheKey{Name: filepath.Base(filepath.Dir(file)), File: file}
	address := cmd.String("url")
	if address == "" {
		return key, refuseBlob(cmd.String("gocloud-url"))
	}
	headers := http.Header{}
	for _, header := range cmd.StringSlice("header") {
		name, value, ok := strings.Cut(header, ":")
		if !ok {
			return plan.CacheKey{}, errors.New("--header is not of the form Name: value")
		}
		headers.Add(name, strings.TrimSpace(value))
	}
	key.Remote = &plan.Remote{URL: address, HeadURL: headURL, Headers: headers}
	return key, nil
}

// refuseBlob says why a store cannot be reached by its own client. A script of the user's may ask for that.
func refuseBlob(address string) error {
	if address == "" {
		return nil
	}
	scheme := "an unknown kind"
	if u, err := url.Parse(address); err == nil {
		scheme = u.Scheme
	}
	return fmt.Errorf("--gocloud-url: this helper reaches a distributed cache by signed URLs only, not by temporary credentials for %s; "+
		"give --url, or configure the runner's cache with credentials that can sign URLs", scheme)
}

// takeAlternate gives an archive that has its former name the one that is asked for.
func takeAlternate(file, alternate string) error {
	if alternate == "" {
		return nil
	}
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := os.Lstat(alternate); err != nil {
		return nil //nolint:nilerr // there is no such archive
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("making the directory of the archive: %w", err)
	}
	if err := os.Rename(alternate, file); err != nil {
		return fmt.Errorf("renaming the archive: %w", err)
	}
	return nil
}
