package sources

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// cleaning says what is to be removed from a repository beside locks.
type cleaning struct {
	// submodules extends it to their repositories.
	submodules bool
	// config removes configuration and hooks, by which one job could make the next one run something.
	config bool
}

func hasSubmodules(strategy plan.SubmoduleStrategy) bool {
	return strategy == plan.SubmoduleNormal || strategy == plan.SubmoduleRecursive
}

// cleanRepository removes from the project's repository what an interrupted git or an earlier job may
// have left there. It follows no links; where the repository is not a directory it is removed.
func cleanRepository(w *workspace.Workspace, c cleaning) error {
	gitDir := filepath.Join(w.ProjectDir, ".git")
	info, err := os.Lstat(gitDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the repository: %w", err)
	case !info.IsDir():
		if err := os.Remove(gitDir); err != nil {
			return fmt.Errorf("removing what is in the place of the repository: %w", err)
		}
		return nil
	}
	if err := cleanGitDir(gitDir, c.config); err != nil {
		return err
	}
	if c.submodules {
		for _, module := range submoduleDirs(gitDir) {
			if err := cleanGitDir(module, c.config); err != nil {
				return err
			}
		}
	}
	return nil
}

// cleanGitDir cleans one repository's directory.
func cleanGitDir(gitDir string, config bool) error {
	names := []string{"index.lock", "shallow.lock", "HEAD.lock", "config.lock", "packed-refs.lock", filepath.Join("hooks", "post-checkout")}
	if config {
		names = append(names, "config", "hooks", "config.worktree")
	}
	for _, name := range names {
		// Hooks may be a link to a directory of somebody else.
		if dir := filepath.Dir(name); dir != "." && !isDir(filepath.Join(gitDir, dir)) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(gitDir, name)); err != nil {
			return fmt.Errorf("cleaning the repository: %w", err)
		}
	}
	err := filepath.WalkDir(filepath.Join(gitDir, "refs"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // git tells better what is wrong with it
		}
		if !entry.IsDir() && strings.HasSuffix(path, ".lock") {
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cleaning the repository: %w", err)
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.IsDir()
}

// submoduleDirs finds the repositories below modules in a repository's directory. A submodule's name
// may have slashes, and be that of a file that repositories have.
func submoduleDirs(gitDir string) []string {
	var found []string
	modules := filepath.Join(gitDir, "modules")
	if !isDir(modules) {
		return nil
	}
	_ = filepath.WalkDir(modules, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil //nolint:nilerr // what cannot be read is no repository
		}
		if _, err := os.Lstat(filepath.Join(path, "HEAD")); err != nil {
			return nil
		}
		found = append(found, path)
		found = append(found, submoduleDirs(path)...)
		return fs.SkipDir
	})
	return found
}
