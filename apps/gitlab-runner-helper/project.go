package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/files"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/git"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
)

// project is the working directory, in which the commands for artifacts and caches work.
type project struct {
	dir       string
	root      *os.Root
	collector *files.Collector
}

func openProject(c *console.Console) (*project, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, fmt.Errorf("finding the working directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the working directory: %w", err)
	}
	return &project{dir: dir, root: root, collector: &files.Collector{
		Console: c, Dir: dir, Root: root, Lookup: os.Getenv,
		Git: git.New(c, process.NewEnvironment(os.Environ())),
	}}, nil
}

func (p *project) close() {
	// It was only read from; there is nothing to lose.
	_ = p.root.Close()
}

// fileFlags choose files of the project.
func fileFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "path", Usage: "pattern of files to pack"},
		&cli.StringSliceFlag{Name: "exclude", Usage: "pattern of files to leave out"},
		&cli.BoolFlag{Name: "untracked", Usage: "pack the files that git does not track"},
	}
}
