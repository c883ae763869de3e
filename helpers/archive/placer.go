package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// target is something to be made of an archive's entry.
type target struct {
	name     string
	mode     fs.FileMode
	modified time.Time
	owned    bool
	uid, gid int
}

// symlink is made at the end.
type symlink struct {
	target
	to string
}

// placer makes files in a directory. It is safe for use by several goroutines, but for finish.
type placer struct {
	root    *os.Root
	opts    ExtractOptions
	restore bool
	buffers sync.Pool

	mu          sync.Mutex
	made        map[string]bool
	directories []target
	links       []symlink
}

func newPlacer(root *os.Root, opts ExtractOptions) *placer {
	return &placer{
		root: root, opts: opts,
		restore: os.Geteuid() == 0,
		buffers: sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }},
		made:    map[string]bool{".": true},
	}
}

// safeName returns an entry's name in the system's form, if it is one inside a directory.
func safeName(name string) (string, error) {
	local := filepath.FromSlash(path.Clean(name))
	if name == "" || strings.ContainsRune(name, 0) || !filepath.IsLocal(local) {
		return "", fmt.Errorf("unpacking %q: %w", name, ErrUnsafeName)
	}
	return local, nil
}

func (p *placer) skip(name, reason string) {
	if p.opts.Skipped == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opts.Skipped(name, reason)
}

// mkdir makes a directory and those above it.
func (p *placer) mkdir(name string) error {
	p.mu.Lock()
	made := p.made[name]
	p.mu.Unlock()
	if made {
		return nil
	}
	if err := p.root.MkdirAll(name, 0o777); err != nil {
		return fmt.Errorf("making the directory %s: %w", name, err)
	}
	p.mu.Lock()
	p.made[name] = true
	p.mu.Unlock()
	return nil
}

func (p *placer) directory(t target) error {
	if err := p.mkdir(t.name); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.directories = append(p.directories, t)
	return nil
}

// link notes a symbolic link for the end.
func (p *placer) link(t target, to string) error {
	if to == "" || len(to) > maxLink || strings.ContainsRune(to, 0) {
		return fmt.Errorf("unpacking %s: the link's target is empty or too long", t.name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links = append(p.links, symlink{t, to})
	return nil
}

func (p *placer) hardLink(t target, existing string) error {
	if err := p.mkdir(filepath.Dir(t.name)); err != nil {
		return err
	}
	err := p.replacing(t.name, func() error { return p.root.Link(existing, t.name) })
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", t.name, err)
	}
	return nil
}

// replacing calls make, which fails if there is something of that name, after the removal of that.
func (p *placer) replacing(name string, make func() error) error {
	const tries = 3 // entries of the same name may get in one another's way
	var err error
	for range tries {
		err = make()
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		if removed := p.root.Remove(name); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			return fmt.Errorf("replacing what is there: %w", removed)
		}
	}
	return err
}

func (p *placer) file(ctx context.Context, t target, content io.Reader) error {
	if err := p.mkdir(filepath.Dir(t.name)); err != nil {
		return err
	}
	var f *os.File
	err := p.replacing(t.name, func() (err error) {
		f, err = p.root.OpenFile(t.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return fmt.Errorf("unpacking %s: %w", t.name, err)
	}
	if err := errors.Join(p.fill(ctx, f, t, content), f.Close()); err != nil {
		return fmt.Errorf("unpacking %s: %w", t.name, err)
	}
	if t.modified.IsZero() {
		return nil
	}
	if err := p.root.Chtimes(t.name, t.modified, t.modified); err != nil {
		return fmt.Errorf("setting the time of %s: %w", t.name, err)
	}
	return nil
}

func (p *placer) fill(ctx context.Context, f *os.File, t target, content io.Reader) error {
	buffer := p.buffers.Get().(*[]byte)
	defer p.buffers.Put(buffer)
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, contextReader{ctx, content}, *buffer); err != nil {
		return err
	}
	if p.restore && t.owned {
		// Without the right to, for example in a user namespace, the file stays the process's own.
		_ = f.Chown(t.uid, t.gid)
	}
	return f.Chmod(t.mode)
}

// finish makes the links, and sets what the making of files would have changed in directories.
func (p *placer) finish(ctx context.Context) error {
	for _, link := range p.links {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.mkdir(filepath.Dir(link.name)); err != nil {
			return err
		}
		err := p.replacing(link.name, func() error { return p.root.Symlink(link.to, link.name) })
		if err != nil {
			return fmt.Errorf("unpacking %s: %w", link.name, err)
		}
		if p.restore && link.owned {
			_ = p.root.Lchown(link.name, link.uid, link.gid)
		}
	}
	// What is in a directory comes before the directory itself.
	slices.SortStableFunc(p.directories, func(a, b target) int { return strings.Compare(b.name, a.name) })
	for _, t := range p.directories {
		if err := p.seal(t); err != nil {
			return fmt.Errorf("setting the mode of %s: %w", t.name, err)
		}
	}
	return nil
}

func (p *placer) seal(t target) error {
	info, err := p.root.Lstat(t.name)
	if err != nil {
		return err
	}
	// A link to a directory was there before; it is not for the archive to change what it shows.
	if !info.IsDir() {
		return nil
	}
	if p.restore && t.owned {
		_ = p.root.Lchown(t.name, t.uid, t.gid)
	}
	if err := p.root.Chmod(t.name, t.mode); err != nil {
		return err
	}
	if t.modified.IsZero() {
		return nil
	}
	return p.root.Chtimes(t.name, t.modified, t.modified)
}
