package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/cache"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

func cacheFlags() []cli.Flag {
	return append(transferFlags(),
		&cli.StringFlag{Name: "file", Usage: "local archive", Required: true},
		&cli.StringFlag{Name: "alternate-file", Usage: "local archive under its former name, used if --file is missing"},
		&cli.StringFlag{Name: "url", Usage: "signed URL of the remote archive"},
		&cli.StringFlag{Name: "alternate-url", Usage: "signed URL of the remote archive under its former name"},
		&cli.StringFlag{Name: "alternate-head-url", Usage: "signed URL that tells about the remote archive under its former name"},
		&cli.StringFlag{Name: "gocloud-url", Usage: "URL of the remote archive for temporary credentials"},
		&cli.IntFlag{Name: "timeout", Usage: "minutes that a request may take", Value: 10, Sources: cli.EnvVars("CACHE_REQUEST_TIMEOUT")},
		// What follows tunes clients of object stores that this helper does not have. Scripts may set it.
		&cli.StringFlag{Name: "env-file", Hidden: true},
		&cli.StringFlag{Name: "metadata", Hidden: true, Sources: cli.EnvVars("CACHE_METADATA")},
		&cli.IntFlag{Name: "transfer-buffer-size", Hidden: true, Sources: cli.EnvVars("CACHE_TRANSFER_BUFFER_SIZE")},
		&cli.IntFlag{Name: "chunk-size", Hidden: true, Sources: cli.EnvVars("CACHE_CHUNK_SIZE")},
		&cli.IntFlag{Name: "concurrency", Hidden: true, Sources: cli.EnvVars("CACHE_CONCURRENCY")},
	)
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
			return p.cache(c, cmd).Archive(ctx, plan.CacheSave{
				Key:              key,
				TimeoutMinutes:   cmd.Int("timeout"),
				Paths:            cmd.StringSlice("path"),
				Untracked:        cmd.Bool("untracked"),
				Verbose:          cmd.Bool("verbose"),
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
			return p.cache(c, cmd).Extract(ctx, key, cmd.Int("timeout"))
		},
	}
}

func (p *project) cache(c *console.Console, cmd *cli.Command) *cache.Cache {
	return &cache.Cache{Console: c, Root: p.root, Collector: p.collector, Meter: newMeter(c, cmd), Retry: newRetry(cmd)}
}

// cacheKey is the archive that the flags name.
func cacheKey(cmd *cli.Command, headURL string) (plan.CacheKey, error) {
	file, err := filepath.Abs(cmd.String("file"))
	if err != nil {
		return plan.CacheKey{}, fmt.Errorf("finding the archive: %w", err)
	}
	key := plan.CacheKey{Name: filepath.Base(filepath.Dir(file)), File: file}
	if alternate := cmd.String("alternate-file"); alternate != "" {
		if key.AlternateFile, err = filepath.Abs(alternate); err != nil {
			return plan.CacheKey{}, fmt.Errorf("finding the archive under its former name: %w", err)
		}
	}
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
	if alternate := cmd.String("alternate-url"); alternate != "" {
		key.AlternateRemote = &plan.Remote{URL: alternate, HeadURL: cmd.String("alternate-head-url")}
	}
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
