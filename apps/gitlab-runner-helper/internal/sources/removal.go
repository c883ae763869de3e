package sources

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/git"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/workspace"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// Clear removes all files of the work tree, tracked or not, but not the repository unless that is
// damaged. It is the work of clear_worktree.
func Clear(ctx context.Context, s Stage) error {
	dir := s.Workspace.ProjectDir
	if !isDir(dir) {
		return nil
	}
	g := git.New(s.Console, s.Environment)
	if err := g.Distrust(dir); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"rm", "-rf", "--ignore-unmatch", "--quiet", "."},
		{"clean", "-ffdx", "-q"},
	} {
		err := g.Run(ctx, dir, args...)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			s.Console.Warning("The work tree cannot be cleared (%v); the project directory is removed", err)
			return s.Workspace.RemoveProject()
		}
	}
	return nil
}

// CleanUp leaves nothing of the job's secrets for the next one, and nothing by which the job could
// influence that. It is the work of cleanup_file_variables. It does all it can and returns all errors.
func CleanUp(ctx context.Context, s Stage, p *plan.Cleanup, variables []plan.Variable) error {
	g := git.New(s.Console, s.Environment)
	dir := s.Workspace.ProjectDir
	if err := g.Distrust(dir); err != nil {
		return err
	}
	forgetCredentials(ctx, g, p.CredentialHosts)

	names := []string{workspace.EnvFile, maskingFile, externalConfig, seedConfig}
	if p.CleanGitConfig {
		names = append(names, templateDir)
	}
	for _, v := range variables {
		if v.File && workspace.PlainName(v.Key) {
			names = append(names, v.Key)
		}
	}
	err := s.Workspace.RemoveTmp(names...)
	if p.Worktree {
		err = errors.Join(err, cleanWorktree(ctx, s, g, p))
	}
	return errors.Join(err, cleanRepository(s.Workspace, cleaning{
		submodules: hasSubmodules(p.Submodules),
		config:     p.CleanGitConfig,
	}))
}

func cleanWorktree(ctx context.Context, s Stage, g *git.Git, p *plan.Cleanup) error {
	dir := s.Workspace.ProjectDir
	switch p.Strategy {
	case plan.StrategyClone, plan.StrategyEmpty:
		return s.Workspace.RemoveProject()
	case plan.StrategyFetch:
	default:
		s.Console.Notice("Skipping build directory cleanup step")
		return nil
	}
	if !isDir(filepath.Join(dir, ".git")) {
		return nil
	}
	flags := p.CleanFlags
	if flags == nil {
		flags = []string{"-ffdx"}
	}
	clean := append([]string{"clean"}, flags...)
	commands := [][]string{clean, {"reset", "--hard"}}
	if hasSubmodules(p.Submodules) {
		foreach := []string{"submodule", "foreach"}
		if p.Submodules == plan.SubmoduleRecursive {
			foreach = append(foreach, "--recursive")
		}
		foreach = append(foreach, "git")
		commands = append(commands, slices.Concat(foreach, clean), slices.Concat(foreach, []string{"reset", "--hard"}))
	}
	for _, args := range commands {
		if err := g.Run(ctx, dir, args...); err != nil {
			return fmt.Errorf("cleaning the project directory: %w", err)
		}
	}
	return nil
}
