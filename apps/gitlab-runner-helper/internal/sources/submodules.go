package sources

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/git"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// submodules gets the submodules of the commit that was checked out.
func (g *getter) submodules(ctx context.Context) error {
	if !hasSubmodules(g.plan.Submodules.Strategy) {
		g.Console.Notice("Skipping Git submodules setup")
		return nil
	}
	if !g.plan.Checkout {
		return nil
	}
	message := "Updating/initializing submodules"
	if g.recursive() {
		message += " recursively"
	}
	if depth := g.plan.Submodules.Depth; depth > 0 {
		message += fmt.Sprintf(" with git depth set to %d", depth)
	}
	g.Console.Notice("%s...", message)

	if err := g.submodule(ctx, "init"); err != nil {
		return err
	}
	if err := g.syncSubmodules(ctx); err != nil {
		return err
	}
	// In an empty directory nothing could be left of an earlier job.
	if !g.fresh {
		if err := g.resetSubmodules(ctx); err != nil {
			return err
		}
	}
	if err := g.updateSubmodules(ctx); err != nil {
		return err
	}
	if err := g.foreach(ctx, g.cleanCommand()...); err != nil {
		return err
	}
	g.Console.Notice("Configuring submodules to use parent git credentials...")
	if err := g.includeInSubmodules(ctx); err != nil {
		return err
	}
	if g.plan.LFSSkipSmudge || !g.git.Supports(ctx, "lfs") {
		return nil
	}
	g.Console.Notice("Pulling LFS files...")
	return g.foreach(ctx, "git", "lfs", "pull")
}

func (g *getter) recursive() bool {
	return g.plan.Submodules.Strategy == plan.SubmoduleRecursive
}

// submodule runs git submodule. What it starts reads the submodules' configuration only, which may
// have been removed: so the credentials are given to it, and a submodule's fetch may not go on to the
// submodules in it, whose addresses are not known yet.
func (g *getter) submodule(ctx context.Context, args ...string) error {
	args = append([]string{
		"-c", "include.path=" + g.Workspace.Tmp(externalConfig), "-c", "fetch.recurseSubmodules=false", "submodule",
	}, args...)
	if err := g.git.Run(ctx, g.Workspace.ProjectDir, args...); err != nil {
		return fmt.Errorf("getting submodules: %w", err)
	}
	return nil
}

func (g *getter) submoduleArgs(command string, options ...string) []string {
	args := append([]string{command}, options...)
	if g.recursive() {
		args = append(args, "--recursive")
	}
	return args
}

func (g *getter) withPaths(args []string) []string {
	if len(g.plan.Submodules.Paths) == 0 {
		return args
	}
	return append(append(args, "--"), g.plan.Submodules.Paths...)
}

func (g *getter) syncSubmodules(ctx context.Context) error {
	return g.submodule(ctx, g.withPaths(g.submoduleArgs("sync"))...)
}

func (g *getter) foreach(ctx context.Context, command ...string) error {
	return g.submodule(ctx, append(g.submoduleArgs("foreach"), command...)...)
}

func (g *getter) cleanCommand() []string {
	flags := g.plan.CleanFlags
	if flags == nil {
		flags = []string{"-ffdx"}
	}
	return append([]string{"git", "clean"}, flags...)
}

func (g *getter) resetSubmodules(ctx context.Context) error {
	if err := g.foreach(ctx, g.cleanCommand()...); err != nil {
		return err
	}
	return g.foreach(ctx, "git", "reset", "--hard")
}

func (g *getter) updateSubmodules(ctx context.Context) error {
	args := g.submoduleArgs("update", "--init")
	if depth := g.plan.Submodules.Depth; depth > 0 {
		args = append(args, "--depth", strconv.Itoa(depth))
	}
	args = g.withPaths(append(args, g.plan.Submodules.UpdateFlags...))

	err := g.submodule(ctx, args...)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil {
		g.Console.Notice("Updated submodules")
		return g.syncSubmodules(ctx)
	}
	// The working copies may be of another state than the repositories, or the addresses have changed.
	g.Console.Warning("Updating submodules failed. Retrying...")
	if slices.Contains(g.plan.Submodules.UpdateFlags, "--remote") {
		if err := g.foreach(ctx, "git", "fetch", "origin", allBranches); err != nil {
			return err
		}
	}
	if err := g.syncSubmodules(ctx); err != nil {
		return err
	}
	if err := g.submodule(ctx, args...); err != nil {
		return err
	}
	return g.foreach(ctx, "git", "reset", "--hard")
}

// includeInSubmodules lets the job's own git commands in submodules use the credentials. Files are
// edited here, as a process per submodule takes its time.
func (g *getter) includeInSubmodules(ctx context.Context) error {
	external := g.Workspace.Tmp(externalConfig)
	for _, dir := range submoduleDirs(filepath.Join(g.Workspace.ProjectDir, ".git")) {
		file := filepath.Join(dir, "config")
		info, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !info.Mode().IsRegular() {
			return fmt.Errorf("configuring the submodule in %s: its config is not a regular file", dir)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("configuring the submodule in %s: %w", dir, err)
		}
		if bytes.Contains(content, []byte(filepath.Base(external))) {
			err = g.git.Run(ctx, dir, "config", "--file", file, "--replace-all", "include.path", external, regexp.QuoteMeta(externalConfig)+"$")
		} else {
			err = appendInclude(file, external)
		}
		if err != nil {
			return fmt.Errorf("configuring the submodule in %s: %w", dir, err)
		}
	}
	return nil
}

func appendInclude(file, external string) error {
	var c git.Config
	c.Add("include", "", "path", external)
	entry, err := c.Bytes()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(append([]byte("\n"), entry...))
	return errors.Join(err, f.Close())
}
