package main

import (
	"fmt"
	"os"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/files"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/git"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/meter"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/retry"
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
		&cli.BoolFlag{Name: "verbose", Usage: "list the files"},
	}
}

// transferFlags say how files are moved.
func transferFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "retry", Usage: "how often what failed is tried again", Value: retry.Default().Repeats},
		&cli.DurationFlag{Name: "retry-time", Usage: "wait before that", Value: retry.Default().Wait},
		&cli.DurationFlag{Name: "transfer-meter-frequency", Usage: "time between two messages about the progress, 0 for none", Sources: cli.EnvVars("TRANSFER_METER_FREQUENCY")},
	}
}

func newMeter(c *console.Console, cmd *cli.Command) meter.Meter {
	return meter.Meter{Console: c, Every: cmd.Duration("transfer-meter-frequency")}
}

func newRetry(cmd *cli.Command) retry.Policy {
	return retry.Policy{Repeats: cmd.Int("retry"), Wait: cmd.Duration("retry-time")}
}
