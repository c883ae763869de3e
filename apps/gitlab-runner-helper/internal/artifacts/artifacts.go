// Package artifacts packs and uploads the artifacts of a job, and downloads and unpacks those of others.
package artifacts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/files"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/meter"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/retry"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/archive"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/pause"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

const (
	// unavailableRepeats are those of an upload while GitLab says that it is not available.
	unavailableRepeats = 5
	longestWait        = 5 * time.Second
)

// Coordinator is GitLab. It tells the user what became of each try.
type Coordinator interface {
	UploadArtifacts(ctx context.Context, job network.JobCredentials, upload network.ArtifactUpload) (network.UploadState, string)
	DownloadArtifacts(ctx context.Context, job network.JobCredentials, w io.Writer, direct bool) network.DownloadState
}

// Transfer moves artifacts between a project directory and GitLab. It is not safe for concurrent use.
type Transfer struct {
	Console     *console.Console
	Workspace   *workspace.Workspace
	Root        *os.Root
	Collector   *files.Collector
	Coordinator Coordinator
	Meter       meter.Meter
	Retry       retry.Policy
	// Server is how to reach GitLab, without a job's id and token.
	Server network.JobCredentials
}

func (t *Transfer) credentials(id int64, token string) network.JobCredentials {
	job := t.Server
	job.ID, job.Token = id, token
	return job
}

// Upload packs and uploads one artifact. That there are no files is told to the user and no error.
func (t *Transfer) Upload(ctx context.Context, a plan.ArtifactUpload) error {
	t.Console.Notice("Uploading artifacts...")
	format, err := archive.ParseFormat(a.Format)
	if err != nil {
		return fmt.Errorf("uploading artifacts: %w", err)
	}
	level, err := archive.ParseLevel(a.CompressionLevel)
	if err != nil {
		t.Console.Warning("WARNING: ARTIFACT_COMPRESSION_LEVEL: %v", err)
		level = archive.Default
	}
	names, err := t.Collector.Collect(ctx, files.Request{Paths: a.Paths, Exclude: a.Exclude, Untracked: a.Untracked, Verbose: a.Verbose})
	if err != nil {
		return fmt.Errorf("collecting artifacts: %w", err)
	}
	if len(names) == 0 {
		t.Console.Error("No files to upload")
		return nil
	}
	if a.Provenance != nil && format == archive.Zip {
		statement, remove, err := t.writeProvenance(ctx, a, names)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			t.Console.Warning("WARNING: The artifacts are uploaded without metadata: %v", err)
		default:
			defer remove()
			names = append(names, statement)
		}
	}
	// How large the archive becomes is not known while it is made.
	progress := t.Meter.Begin("Uploading artifacts", 0)
	defer progress.End()
	content := &packer{
		ctx: ctx, progress: progress, root: t.Root, names: names,
		opts: archive.Options{Format: format, Level: level, Skipped: func(name, reason string) {
			t.Console.Warning("WARNING: %s is left out: %s", name, reason)
		}},
	}
	return t.send(ctx, a, network.ArtifactUpload{
		BaseName:              t.baseName(a.Name, format),
		ExpireIn:              a.ExpireIn,
		Format:                a.Format,
		Type:                  a.Type,
		Open:                  content.open,
		Timeout:               time.Duration(a.TimeoutSeconds) * time.Second,
		ResponseHeaderTimeout: time.Duration(a.ResponseHeaderTimeoutSeconds) * time.Second,
		LogResponses:          a.LogResponses,
	}, content)
}

// send tries until the archive was received.
func (t *Transfer) send(ctx context.Context, a plan.ArtifactUpload, upload network.ArtifactUpload, content *packer) error {
	job := t.credentials(a.JobID, a.Token)
	for try, wait := 1, t.Retry.Wait; ; try, wait = try+1, min(2*wait, longestWait) {
		state, location := t.Coordinator.UploadArtifacts(ctx, job, upload)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := content.failure(); err != nil && state != network.UploadSucceeded {
			return fmt.Errorf("packing artifacts: %w", err)
		}
		repeats := t.Retry.Repeats
		switch state {
		case network.UploadSucceeded:
			return nil
		case network.UploadForbidden:
			return errors.New("uploading artifacts: GitLab refused them")
		case network.UploadTooLarge:
			return errors.New("uploading artifacts: the archive is larger than GitLab allows")
		case network.UploadRedirected:
			job.URL = location
		case network.UploadServiceUnavailable:
			repeats = max(repeats, unavailableRepeats)
		}
		if try > repeats {
			return fmt.Errorf("uploading artifacts: failed %d times", try)
		}
		t.Console.Warning("WARNING: Retrying...")
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
	}
}

// baseName is the name of the file as GitLab is told it.
func (t *Transfer) baseName(name string, format archive.Format) string {
	if name == "" {
		name = "artifacts"
	}
	base := path.Base(filepath.ToSlash(t.Collector.Expand(name)))
	if base == "." || base == "/" || base == ".." {
		base = "default"
	}
	switch format {
	case archive.Gzip:
		return base + ".gz"
	case archive.Raw:
		return base
	case archive.TarZstd:
		return base + ".tar.zst"
	default:
		return base + ".zip"
	}
}

// Download gets the artifacts of one job and unpacks them into the project directory.
func (t *Transfer) Download(ctx context.Context, a plan.ArtifactDownload) error {
	t.Console.Notice("Downloading artifacts for %s (%d)...", a.Name, a.JobID)
	f, remove, err := t.Workspace.TempFile()
	if err != nil {
		return fmt.Errorf("downloading artifacts: %w", err)
	}
	defer remove()
	defer f.Close()
	if err := t.receive(ctx, a, f); err != nil {
		return err
	}
	err = archive.Extract(ctx, f, t.Root, archive.ExtractOptions{Skipped: func(name, reason string) {
		t.Console.Warning("WARNING: %s is left out: %s", name, reason)
	}})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("unpacking the artifacts of %s: %w", a.Name, err)
	}
	return nil
}

// receive tries until the archive is in f.
func (t *Transfer) receive(ctx context.Context, a plan.ArtifactDownload, f *os.File) error {
	job := t.credentials(a.JobID, a.Token)
	progress := t.Meter.Begin("Downloading artifacts", 0)
	defer progress.End()
	direct := a.DirectDownload
	again := func() { t.Console.Warning("WARNING: Retrying...") }
	return t.Retry.Do(ctx, again, func() (bool, error) {
		_, err := f.Seek(0, io.SeekStart)
		if err := errors.Join(err, f.Truncate(0)); err != nil {
			return false, fmt.Errorf("emptying a temporary file: %w", err)
		}
		progress.Restart()
		state := t.Coordinator.DownloadArtifacts(ctx, job, progress.Writer(f), direct)
		direct = false
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		switch state {
		case network.DownloadSucceeded:
			return false, nil
		case network.DownloadForbidden:
			return false, fmt.Errorf("downloading the artifacts of %s: GitLab does not allow it", a.Name)
		case network.DownloadUnauthorized:
			return false, fmt.Errorf("downloading the artifacts of %s: GitLab does not know the job's token", a.Name)
		case network.DownloadNotFound:
			return false, fmt.Errorf("downloading the artifacts of %s: there are none; they may have expired or been erased", a.Name)
		default:
			return true, fmt.Errorf("downloading the artifacts of %s: failed %d times", a.Name, t.Retry.Repeats+1)
		}
	})
}

// packer makes an archive as often as it is read.
type packer struct {
	ctx   context.Context
	root  *os.Root
	names []string
	opts  archive.Options
	// progress counts what is read of the archive.
	progress *meter.Transfer

	mu  sync.Mutex
	err error
}

// failure returns why the last archive could not be made.
func (p *packer) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// errNotRead ends the making of an archive of which no more is read.
var errNotRead = errors.New("the archive is not read to its end")

func (p *packer) open() (io.ReadCloser, error) {
	p.progress.Restart()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := archive.Create(p.ctx, w, p.root, p.names, p.opts)
		_ = w.CloseWithError(err)
		if errors.Is(err, errNotRead) {
			err = nil
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = err
	}()
	return &packed{Reader: p.progress.Reader(r), pipe: r, done: done}, nil
}

// packed is an archive in the making.
type packed struct {
	io.Reader
	pipe *io.PipeReader
	done chan struct{}
}

// Close waits for the end of the archive's making.
func (p *packed) Close() error {
	err := p.pipe.CloseWithError(errNotRead)
	<-p.done
	return err
}
