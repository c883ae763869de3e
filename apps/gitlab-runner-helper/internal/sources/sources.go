// Package sources puts the project's files where the job expects them, with real git, and takes them
// away again. It is the work of the stages get_sources, clear_worktree and cleanup_file_variables.
//
// What it guarantees: no credential stands in an argument, in the environment or in the work tree; a
// repository that an earlier job left damaged, locked or altered does not fail the job, but is fetched
// afresh.
package sources

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/git"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// Stage is what the work on sources needs.
type Stage struct {
	Workspace   *workspace.Workspace
	Console     *console.Console
	Environment *process.Environment
	Server      plan.Server
}

// getter is the work of one get_sources.
type getter struct {
	Stage
	git  *git.Git
	plan *plan.Sources
	// native says that git's own clone is used.
	native bool
	// fresh says that there was nothing in the project directory.
	fresh bool
}

// A commit's full id.
var commitID = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// Get does the work of get_sources. An error of git or of a hook wraps a *process.ExitError.
func Get(ctx context.Context, s Stage, p *plan.Sources) error {
	g := &getter{Stage: s, git: git.New(s.Console, s.Environment), plan: p}
	if err := g.check(); err != nil {
		return err
	}
	if err := g.configure(); err != nil {
		return err
	}
	err := g.get(ctx)
	if err != nil {
		return err
	}
	forgetCredentials(ctx, g.git, p.CredentialHosts)
	return nil
}

func (g *getter) check() error {
	switch g.plan.Strategy {
	case plan.StrategyNone, plan.StrategyEmpty:
		return nil
	case plan.StrategyFetch, plan.StrategyClone:
	default:
		return fmt.Errorf("unknown GIT_STRATEGY %q: use fetch, clone, none or empty", g.plan.Strategy)
	}
	switch g.plan.Submodules.Strategy {
	case "", plan.SubmoduleNone, plan.SubmoduleNormal, plan.SubmoduleRecursive:
	default:
		return fmt.Errorf("unknown GIT_SUBMODULE_STRATEGY %q: use none, normal or recursive", g.plan.Submodules.Strategy)
	}
	if g.plan.RemoteURL == "" {
		return errors.New("the plan has no URL of a repository")
	}
	if g.plan.Checkout && !commitID.MatchString(g.plan.Sha) {
		return fmt.Errorf("the job's commit %q is not a full commit id", g.plan.Sha)
	}
	return nil
}

func (g *getter) get(ctx context.Context) error {
	switch g.plan.Strategy {
	case plan.StrategyNone:
		g.Console.Notice("Skipping Git repository setup")
		g.Console.Notice("Skipping Git checkout")
		g.Console.Notice("Skipping Git submodules setup")
		return g.Workspace.MakeProject()
	case plan.StrategyEmpty:
		g.Console.Notice("Skipping Git repository setup and creating an empty build directory")
		g.Console.Notice("Skipping Git checkout")
		g.Console.Notice("Skipping Git submodules setup")
		if err := g.Workspace.RemoveProject(); err != nil {
			return err
		}
		return g.Workspace.MakeProject()
	}
	// Hooks may prepare the project directory, so that it exists only after them.
	if err := g.hooks(ctx, "pre_get_sources_script", "", g.plan.PreHooks); err != nil {
		return err
	}
	if !g.plan.LFSSkipSmudge {
		// Files of LFS are fetched together after the checkout, not one by one during it.
		if err := g.Environment.Set("GIT_LFS_SKIP_SMUDGE", "1"); err != nil {
			return err
		}
	}
	if err := g.repository(ctx); err != nil {
		return err
	}
	return g.hooks(ctx, "post_get_sources_script", g.Workspace.ProjectDir, g.plan.PostHooks)
}

// repository gets the commits, checks out, and gets what belongs to the commit. If what an earlier job left
// stands in the way, it is removed.
func (g *getter) repository(ctx context.Context) error {
	if err := g.Workspace.CheckProject(); err != nil {
		return err
	}
	_, err := os.Lstat(filepath.Join(g.Workspace.ProjectDir, ".git"))
	existed := err == nil
	g.native = g.plan.Strategy == plan.StrategyClone && g.plan.NativeClone && g.git.AtLeast(ctx, 2, 49)
	if err := g.prepareTmp(); err != nil {
		return err
	}
	if g.plan.Strategy == plan.StrategyClone {
		if err := g.Workspace.RemoveProject(); err != nil {
			return err
		}
		return g.contents(ctx)
	}
	if err := cleanRepository(g.Workspace, cleaning{
		submodules: hasSubmodules(g.plan.Submodules.Strategy),
		config:     g.plan.CleanGitConfig,
	}); err != nil {
		return err
	}
	err = g.contents(ctx)
	if err == nil || ctx.Err() != nil || !existed || !cured(err) {
		return err
	}
	g.Console.Warning("The existing repository cannot be used (%v); it is removed and cloned afresh", err)
	if err := g.Workspace.RemoveProject(); err != nil {
		return err
	}
	return g.contents(ctx)
}

// contents fills the project directory.
func (g *getter) contents(ctx context.Context) error {
	if err := g.fetchAndCheckout(ctx); err != nil {
		return err
	}
	if err := g.afterCheckout(ctx); err != nil {
		return laterError{err}
	}
	if err := g.submodules(ctx); err != nil {
		return laterError{err}
	}
	return nil
}

func (g *getter) fetchAndCheckout(ctx context.Context) error {
	g.fresh = isEmpty(g.Workspace.ProjectDir)
	fetch := g.fetch
	if g.native {
		fetch = g.clone
	}
	if err := fetch(ctx); err != nil {
		return err
	}
	if !g.plan.Checkout {
		g.Console.Notice("Skipping Git checkout")
		return nil
	}
	g.Console.Notice("Checking out %.8s as detached HEAD (ref is %s)...", g.plan.Sha, g.plan.Ref)
	args := append([]string{"-c", "submodule.recurse=false"}, g.proactiveAuth()...)
	args = append(args, "checkout", "-f", "-q", g.plan.Sha)
	if err := g.git.Run(ctx, g.Workspace.ProjectDir, args...); err != nil {
		return fmt.Errorf("checking out: %w", err)
	}
	return nil
}

func (g *getter) fetch(ctx context.Context) error {
	dir := g.Workspace.ProjectDir
	if g.plan.Depth > 0 {
		g.Console.Notice("Fetching changes with git depth set to %d...", g.plan.Depth)
	} else {
		g.Console.Notice("Fetching changes...")
	}
	_, err := os.Lstat(filepath.Join(dir, ".git", "HEAD"))
	created := errors.Is(err, fs.ErrNotExist)

	args := []string{"-c", "init.defaultBranch=none", "init", dir, "--template", g.Workspace.Tmp(templateDir)}
	if g.plan.ObjectFormat == "sha256" {
		args = append(args, "--object-format", "sha256")
	}
	if err := g.git.Run(ctx, "", args...); err != nil {
		return fmt.Errorf("making the repository: %w", err)
	}
	if created {
		g.Console.Notice("Created fresh repository.")
	} else if !g.plan.CleanGitConfig {
		if err := g.repairRemote(ctx); err != nil {
			return err
		}
	}

	args = append([]string{"-c", "http.userAgent=" + g.plan.UserAgent}, g.proactiveAuth()...)
	args = append(args, "fetch", "--no-recurse-submodules")
	if created {
		// There is nothing to tidy up yet.
		args = append(args, "--no-auto-gc")
	}
	if g.plan.Depth > 0 {
		args = append(args, "--depth", strconv.Itoa(g.plan.Depth))
	} else if _, err := os.Lstat(filepath.Join(dir, ".git", "shallow")); err == nil {
		args = append(args, "--unshallow")
	}
	args = append(args, g.plan.FetchFlags...)
	args = append(args, "origin", "--")
	args = append(args, g.plan.Refspecs...)
	if err := g.git.Run(ctx, dir, args...); err != nil {
		return fmt.Errorf("fetching: %w", err)
	}
	return nil
}

// repairRemote sets what the template would have, had the repository's configuration been new.
func (g *getter) repairRemote(ctx context.Context) error {
	dir := g.Workspace.ProjectDir
	settings := [][]string{
		{"remote.origin.url", g.plan.RemoteURL},
		{"remote.origin.fetch", allBranches},
		{"include.path", g.Workspace.Tmp(externalConfig), regexp.QuoteMeta(externalConfig) + "$"},
	}
	for _, s := range settings {
		if err := g.git.Run(ctx, dir, append([]string{"config", "--replace-all"}, s...)...); err != nil {
			return fmt.Errorf("configuring the repository: %w", err)
		}
	}
	return nil
}

// clone is git's own clone. It gets one ref; a commit that is no longer part of it is fetched after.
func (g *getter) clone(ctx context.Context) error {
	args := append([]string{"-c", "http.userAgent=" + g.plan.UserAgent}, g.proactiveAuth()...)
	args = append(args, "clone", "--no-checkout", g.plan.RemoteURL, g.Workspace.ProjectDir, "--template", g.Workspace.Tmp(templateDir))
	if g.plan.Depth > 0 {
		g.Console.Notice("Cloning repository with git depth set to %d...", g.plan.Depth)
		args = append(args, "--depth", strconv.Itoa(g.plan.Depth))
	} else {
		g.Console.Notice("Cloning repository...")
	}
	if isFullRef(g.plan.Ref) {
		args = append(args, "--revision", g.plan.Ref)
	} else {
		args = append(args, "--branch", g.plan.Ref)
	}
	args = append(args, g.plan.CloneFlags...)
	if err := g.git.Run(ctx, "", args...); err != nil {
		return fmt.Errorf("cloning: %w", err)
	}
	if g.plan.Checkout && g.git.Feed(ctx, g.Workspace.ProjectDir, "", "rev-parse", "--verify", "--quiet", g.plan.Sha+"^{commit}") != nil {
		return g.fetch(ctx)
	}
	return nil
}

func isFullRef(ref string) bool {
	return len(ref) > len("refs/") && ref[:len("refs/")] == "refs/"
}

// afterCheckout removes what does not belong to the commit and gets files of LFS.
func (g *getter) afterCheckout(ctx context.Context) error {
	if !g.plan.Checkout {
		return nil
	}
	dir := g.Workspace.ProjectDir
	if g.plan.CleanFlags != nil && !g.fresh {
		if err := g.git.Run(ctx, dir, append([]string{"clean"}, g.plan.CleanFlags...)...); err != nil {
			return fmt.Errorf("cleaning the work tree: %w", err)
		}
	}
	if g.plan.LFSSkipSmudge || !g.git.Supports(ctx, "lfs") || !g.usesLFS(ctx) {
		return nil
	}
	if err := g.git.Run(ctx, dir, "lfs", "pull"); err != nil {
		return fmt.Errorf("getting the files of LFS: %w", err)
	}
	g.Console.Print("")
	return nil
}

// usesLFS says whether a file of the project may be in LFS. To find out costs a tenth of a needless pull.
func (g *getter) usesLFS(ctx context.Context) bool {
	err := g.git.Feed(ctx, g.Workspace.ProjectDir, "", "grep", "--cached", "--quiet", "filter=lfs", "--", ":(glob)**/.gitattributes")
	var failed *git.Error
	const notFound = 1
	return !errors.As(err, &failed) || failed.Code != notFound
}

// proactiveAuth makes git send the credentials without being asked for them.
func (g *getter) proactiveAuth() []string {
	if !g.plan.ProactiveAuth {
		return nil
	}
	u, err := url.Parse(g.plan.RemoteURL)
	if err != nil || u.Host == "" {
		return nil
	}
	return []string{"-c", "http." + u.Scheme + "://" + u.Host + ".proactiveAuth=basic"}
}

func isEmpty(dir string) bool {
	entries, err := os.ReadDir(dir)
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0
}

// forgetCredentials keeps the user's credential helpers from storing the job's token. Without such
// helpers it does nothing; that it cannot be done is not worth a failure.
func forgetCredentials(ctx context.Context, g *git.Git, hosts []string) {
	for _, host := range hosts {
		_ = g.Feed(ctx, "", "url="+host+"\nusername=gitlab-ci-token\n\n", "credential", "reject")
	}
}
