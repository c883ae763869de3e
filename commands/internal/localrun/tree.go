package localrun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Tree is the working tree as it was when it was opened, with what was not committed.
type Tree struct {
	// Dir is the top of the working tree.
	Dir string
	// Project is the path of the project, such as group/project.
	Project string
	// Sha is the commit that jobs check out: Parent if nothing was changed. Parent is empty without any
	// commit.
	Sha, Parent string
	// Ref is the name of the branch, or of the tag if Tag.
	Ref string
	Tag bool
	// DefaultBranch is that of the remote, or Ref.
	DefaultBranch string
	// ObjectFormat is sha1 or sha256.
	ObjectFormat string
	// Message, Author and Time are those of Parent.
	Message, Author, Time string

	root *os.Root
	// store is a bare repository with the commit, which borrows the user's objects.
	store string
}

// Changed says whether the tree has changes that are in no commit of the user's.
func (t *Tree) Changed() bool { return t.Sha != t.Parent }

// OpenTree takes the working tree around dir. What it makes is kept in scratch; the user's repository, its
// index and its objects stay as they are. Files that git ignores are left out. Close it.
func OpenTree(ctx context.Context, dir, scratch string) (*Tree, error) {
	user := repository{dir: dir}
	top, err := user.git(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, fmt.Errorf("%s is not in a working tree of git, which jobs get their sources from: %w", dir, err)
	}
	user.dir = top
	t := &Tree{Dir: top, store: filepath.Join(scratch, "store.git")}
	if t.root, err = os.OpenRoot(top); err != nil {
		return nil, fmt.Errorf("opening the working tree: %w", err)
	}
	for _, step := range []func(context.Context, repository) error{t.describe, t.borrow, t.commit} {
		if err := step(ctx, user); err != nil {
			return nil, errors.Join(err, t.root.Close())
		}
	}
	return t, nil
}

// Close gives the tree up. The files in scratch are their maker's to remove.
func (t *Tree) Close() error { return t.root.Close() }

// describe reads what the user's repository says of itself.
func (t *Tree) describe(ctx context.Context, user repository) error {
	var err error
	if t.ObjectFormat, err = user.git(ctx, "rev-parse", "--show-object-format"); err != nil {
		return err
	}
	t.Project = projectPath(user.ask(ctx, "config", "--get", "remote.origin.url"), t.Dir)
	t.Parent = user.ask(ctx, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
	t.Ref = user.ask(ctx, "symbolic-ref", "--short", "--quiet", "HEAD")
	if t.Ref == "" {
		if t.Ref = user.ask(ctx, "describe", "--tags", "--exact-match", "HEAD"); t.Ref != "" {
			t.Tag = true
		} else {
			t.Ref = "detached"
		}
	}
	_, t.DefaultBranch, _ = strings.Cut(user.ask(ctx, "symbolic-ref", "--short", "--quiet", "refs/remotes/origin/HEAD"), "/")
	if t.DefaultBranch == "" {
		t.DefaultBranch = "main"
		if !t.Tag && user.ask(ctx, "rev-parse", "--verify", "--quiet", "refs/heads/main") == "" {
			t.DefaultBranch = t.Ref
		}
	}
	if t.Parent == "" {
		return nil
	}
	text, err := user.git(ctx, "show", "--no-patch", "--format=%an <%ae>%x00%cI%x00%B", t.Parent)
	if err != nil {
		return err
	}
	const fields = 3
	parts := strings.SplitN(text, "\x00", fields)
	if len(parts) != fields {
		return errors.New("reading the commit: git said something unexpected")
	}
	t.Author, t.Time, t.Message = parts[0], parts[1], strings.TrimSpace(parts[2])
	return nil
}

// borrow makes the store.
func (t *Tree) borrow(ctx context.Context, user repository) error {
	if _, err := user.git(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+t.ObjectFormat, t.store); err != nil {
		return err
	}
	objects, err := user.path(ctx, "objects")
	if err != nil {
		return err
	}
	info := filepath.Join(t.store, "objects", "info")
	if err := os.MkdirAll(info, 0o700); err != nil {
		return fmt.Errorf("making the store of the working tree: %w", err)
	}
	if err := os.WriteFile(filepath.Join(info, "alternates"), []byte(filepath.ToSlash(objects)+"\n"), 0o600); err != nil {
		return fmt.Errorf("making the store of the working tree: %w", err)
	}
	// What the user ignores, where a shallow history ends, and what is known of the files already.
	for from, to := range map[string]string{"info/exclude": "info/exclude", "shallow": "shallow", "index": "index"} {
		source, err := user.path(ctx, from)
		if err != nil {
			return err
		}
		if err := copyFile(source, filepath.Join(t.store, to)); err != nil {
			return fmt.Errorf("making the store of the working tree: %w", err)
		}
	}
	return nil
}

// commit puts the files of the working tree into the store, and the refs that jobs fetch.
func (t *Tree) commit(ctx context.Context, user repository) error {
	store := repository{dir: t.Dir, env: []string{
		"GIT_DIR=" + t.store, "GIT_WORK_TREE=" + t.Dir, "GIT_INDEX_FILE=" + filepath.Join(t.store, "index"),
		"GIT_AUTHOR_NAME=gitlab-runner exec", "GIT_AUTHOR_EMAIL=exec@localhost",
		"GIT_COMMITTER_NAME=gitlab-runner exec", "GIT_COMMITTER_EMAIL=exec@localhost",
	}}
	if _, err := store.git(ctx, "-c", "advice.addEmbeddedRepo=false", "add", "--all", "."); err != nil {
		return fmt.Errorf("taking the working tree: %w", err)
	}
	tree, err := store.git(ctx, "write-tree")
	if err != nil {
		return fmt.Errorf("taking the working tree: %w", err)
	}
	t.Sha = t.Parent
	if t.Parent == "" || tree != store.ask(ctx, "rev-parse", t.Parent+"^{tree}") {
		args := []string{"commit-tree", tree, "-m", "The working tree, with changes that are not committed"}
		if t.Parent != "" {
			args = append(args, "-p", t.Parent)
		}
		if t.Sha, err = store.git(ctx, args...); err != nil {
			return fmt.Errorf("taking the working tree: %w", err)
		}
	}
	refs := "create " + t.fullRef() + " " + t.Sha + "\n"
	for line := range strings.Lines(user.ask(ctx, "for-each-ref", "--format=%(objectname) %(refname)", "refs/tags")) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name != "" && name != t.fullRef() {
			refs += "create " + name + " " + id + "\n"
		}
	}
	if !t.Tag {
		if _, err := store.git(ctx, "symbolic-ref", "HEAD", t.fullRef()); err != nil {
			return fmt.Errorf("taking the working tree: %w", err)
		}
	}
	store.stdin = refs
	if _, err := store.git(ctx, "update-ref", "--stdin"); err != nil {
		return fmt.Errorf("taking the working tree: %w", err)
	}
	return nil
}

func (t *Tree) fullRef() string {
	if t.Tag {
		return "refs/tags/" + t.Ref
	}
	return "refs/heads/" + t.Ref
}

// refspecs are what a job fetches.
func (t *Tree) refspecs() []string {
	tags := "+refs/tags/*:refs/tags/*"
	if t.Tag {
		return []string{tags}
	}
	return []string{"+refs/heads/" + t.Ref + ":refs/remotes/origin/" + t.Ref, tags}
}

// maxFile bounds a file of the pipeline's description.
const maxFile = 4 << 20

// Read returns a file of the working tree. Links that leave it are not followed.
func (t *Tree) Read(name string) ([]byte, error) {
	file, err := t.root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s is larger than %d MiB", name, maxFile>>20)
	}
	return data, err
}

// Exists says whether a file of the working tree matches a pattern.
func (t *Tree) Exists(pattern string) (bool, error) {
	pattern = strings.TrimPrefix(path.Clean("/"+pattern), "/")
	found := errors.New("found")
	err := doublestar.GlobWalk(t.root.FS(), pattern, func(string, fs.DirEntry) error { return found },
		doublestar.WithFilesOnly(), doublestar.WithNoFollow())
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// repository runs git. Its answers are trimmed.
type repository struct {
	dir   string
	env   []string
	stdin string
}

func (r repository) git(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C")
	cmd.Env = append(cmd.Env, r.env...)
	cmd.Stdin = strings.NewReader(r.stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// ask is git for what may not be there.
func (r repository) ask(ctx context.Context, args ...string) string {
	answer, err := r.git(ctx, args...)
	if err != nil {
		return ""
	}
	return answer
}

// path is where a part of the repository is.
func (r repository) path(ctx context.Context, name string) (string, error) {
	found, err := r.git(ctx, "rev-parse", "--git-path", name)
	if err != nil || filepath.IsAbs(found) {
		return found, err
	}
	return filepath.Join(r.dir, found), nil
}

// copyFile copies a file that may not be there.
func copyFile(from, to string) error {
	source, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer source.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}

var (
	projectForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$`)
	shortRemote = regexp.MustCompile(`^[^/:]+@?[^/:]*:([^/].*)$`)
	notPath     = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)
)

// projectPath is the path of the project in its remote, or one made of the directory's name.
func projectPath(remote, dir string) string {
	location := ""
	if parsed, err := url.Parse(remote); err == nil && parsed.Host != "" {
		location = parsed.Path
	} else if match := shortRemote.FindStringSubmatch(remote); match != nil {
		location = match[1]
	}
	location = strings.TrimSuffix(strings.Trim(location, "/"), ".git")
	if projectForm.MatchString(location) && !strings.Contains(location, "..") {
		return location
	}
	name := strings.Trim(notPath.ReplaceAllString(filepath.Base(dir), "-"), "-.")
	if name == "" {
		name = "project"
	}
	return "local/" + name
}
