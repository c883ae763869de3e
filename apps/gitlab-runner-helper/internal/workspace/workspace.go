// Package workspace is the two directories of a job: the project's, which the job may fill with
// anything, and the one for temporary files beside it. What an earlier job left there, links included,
// does not lead the helper out of them.
package workspace

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/archive"
)

// EnvFile is the name of the file in TmpDir by which one stage hands variables to the next.
const EnvFile = "gitlab_runner_env"

// identifier is what a shell accepts as the name of a variable.
var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// maxRead is the largest file of the job's that is read as a whole.
const maxRead = 1 << 20

// Workspace is where a job works. Its methods are not safe for concurrent use.
type Workspace struct {
	// ProjectDir and TmpDir are absolute.
	ProjectDir string
	TmpDir     string
}

// New checks the directories' names. It makes nothing.
func New(projectDir, tmpDir string) (*Workspace, error) {
	for key, dir := range map[string]string{"project_dir": projectDir, "tmp_dir": tmpDir} {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) == filepath.VolumeName(dir)+string(filepath.Separator) {
			return nil, fmt.Errorf("the plan's %s is %q: it has to be an absolute path below the root", key, dir)
		}
	}
	return &Workspace{ProjectDir: filepath.Clean(projectDir), TmpDir: filepath.Clean(tmpDir)}, nil
}

// Tmp returns the path of a name in TmpDir.
func (w *Workspace) Tmp(name string) string {
	return filepath.Join(w.TmpDir, name)
}

// tmpRoot opens TmpDir, which it makes if it is missing or not a directory.
func (w *Workspace) tmpRoot() (*os.Root, error) {
	info, err := os.Lstat(w.TmpDir)
	if err == nil && !info.IsDir() {
		if err := os.Remove(w.TmpDir); err != nil {
			return nil, fmt.Errorf("removing what is in the place of the directory for temporary files: %w", err)
		}
	}
	if err := os.MkdirAll(w.TmpDir, 0o777); err != nil {
		return nil, fmt.Errorf("making the directory for temporary files: %w", err)
	}
	root, err := os.OpenRoot(w.TmpDir)
	if err != nil {
		return nil, fmt.Errorf("opening the directory for temporary files: %w", err)
	}
	return root, nil
}

// WriteTmp makes or replaces a file in TmpDir, and the directories above it.
func (w *Workspace) WriteTmp(name string, content []byte, mode fs.FileMode) error {
	root, err := w.tmpRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	if dir := filepath.Dir(name); dir != "." {
		if err := root.MkdirAll(dir, 0o777); err != nil {
			return fmt.Errorf("making the directory %s: %w", w.Tmp(dir), err)
		}
	}
	// A file that is new cannot be a link, and nobody has it open.
	if err := root.RemoveAll(name); err != nil {
		return fmt.Errorf("replacing %s: %w", w.Tmp(name), err)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("making %s: %w", w.Tmp(name), err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", w.Tmp(name), err)
	}
	return nil
}

// TouchTmp makes an empty file in TmpDir unless there is one.
func (w *Workspace) TouchTmp(name string, mode fs.FileMode) error {
	root, err := w.tmpRoot()
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("making %s: %w", w.Tmp(name), err)
	}
	return f.Close()
}

// ReadTmp returns the content of a regular file in TmpDir of at most one MiB. A file that is missing
// gives an error that wraps fs.ErrNotExist.
func (w *Workspace) ReadTmp(name string) ([]byte, error) {
	root, err := os.OpenRoot(w.TmpDir)
	if err != nil {
		return nil, fmt.Errorf("opening the directory for temporary files: %w", err)
	}
	defer root.Close()
	f, _, err := archive.OpenRegular(root, name)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", w.Tmp(name), err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxRead+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", w.Tmp(name), err)
	}
	if len(content) > maxRead {
		return nil, fmt.Errorf("%s is larger than %d bytes", w.Tmp(name), maxRead)
	}
	return content, nil
}

// TempFile makes a file in TmpDir that nobody else knows. The caller closes it and calls remove.
func (w *Workspace) TempFile() (f *os.File, remove func(), err error) {
	root, err := w.tmpRoot()
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	name := ".gitlab-runner-" + rand.Text()
	f, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("making a temporary file: %w", err)
	}
	// What cannot be removed goes with the directory.
	return f, func() { _ = w.RemoveTmp(name) }, nil
}

// Variables returns what earlier stages handed on: the lines of the form NAME=value of EnvFile, and
// how many others there are. Lines without = are not counted.
func (w *Workspace) Variables() (entries []string, bad int, err error) {
	content, err := w.ReadTmp(EnvFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSuffix(line, "\n")
		name, _, assigned := strings.Cut(line, "=")
		switch {
		case !assigned:
		case !identifier.MatchString(name) || strings.ContainsRune(line, 0):
			bad++
		default:
			entries = append(entries, line)
		}
	}
	return entries, bad, nil
}

// RemoveTmp removes names in TmpDir. Those that are missing are fine.
func (w *Workspace) RemoveTmp(names ...string) error {
	root, err := os.OpenRoot(w.TmpDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the directory for temporary files: %w", err)
	}
	defer root.Close()
	var all error
	for _, name := range names {
		if err := root.RemoveAll(name); err != nil {
			all = errors.Join(all, fmt.Errorf("removing %s: %w", w.Tmp(name), err))
		}
	}
	return all
}

// PlainName says whether name is one file's name, without a path.
func PlainName(name string) bool {
	return filepath.IsLocal(name) && name != "." && !strings.ContainsAny(name, `/\`)
}

// CheckProject removes what is in the place of the project directory but is none.
func (w *Workspace) CheckProject() error {
	info, err := os.Lstat(w.ProjectDir)
	if err != nil || info.IsDir() {
		return nil //nolint:nilerr // a directory that is missing or cannot be seen is for others to report
	}
	if err := os.Remove(w.ProjectDir); err != nil {
		return fmt.Errorf("removing what is in the place of the project directory: %w", err)
	}
	return nil
}

// RemoveProject removes the project directory. Where it is a mount point its content is removed.
func (w *Workspace) RemoveProject() error {
	err := os.RemoveAll(w.ProjectDir)
	if errors.Is(err, fs.ErrPermission) {
		allowRemoval(w.ProjectDir)
		err = os.RemoveAll(w.ProjectDir)
	}
	if err == nil {
		return nil
	}
	if left, readErr := os.ReadDir(w.ProjectDir); readErr == nil && len(left) == 0 {
		return nil
	}
	return fmt.Errorf("removing the project directory: %w", err)
}

// allowRemoval makes directories writable for their owner, so that what is in them can be removed.
func allowRemoval(dir string) {
	// What cannot be changed or read is reported by the removal.
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
}

// MakeProject makes the project directory if it is missing.
func (w *Workspace) MakeProject() error {
	if err := os.MkdirAll(w.ProjectDir, 0o777); err != nil {
		return fmt.Errorf("making the project directory: %w", err)
	}
	return nil
}
