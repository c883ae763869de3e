// Command gitlab-runner-helper works beside a job: in the helper container, and for its own commands
// where users call it. The runner calls run-stage, which gets a plan on standard input.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/process"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/stage"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

func main() {
	os.Exit(run(os.Args, os.Stdin, &console.Console{Out: os.Stdout, Err: os.Stderr}))
}

// run runs the command that the arguments name and returns the exit code: that of a program that
// failed, else 1 for any failure.
func run(args []string, stdin io.Reader, c *console.Console) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	app := &cli.Command{
		Name:           "gitlab-runner-helper",
		Usage:          "works for GitLab Runner beside a job",
		Writer:         c.Out,
		ErrWriter:      c.Err,
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Commands: []*cli.Command{
			runStageCommand(stdin, c),
			cacheInitCommand(),
			healthCheckCommand(c),
			cacheArchiverCommand(c),
			cacheExtractorCommand(c),
			artifactsUploaderCommand(c),
			artifactsDownloaderCommand(c),
		},
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print the version", Local: true},
		},
		Action: func(_ context.Context, cmd *cli.Command) error {
			if cmd.Bool("version") {
				_, err := io.WriteString(c.Out, version.Get().Extended())
				return err
			}
			if cmd.Args().Present() {
				return fmt.Errorf("unknown command %q; see --help", cmd.Args().First())
			}
			return cli.ShowAppHelp(cmd)
		},
	}
	for _, command := range app.Commands {
		// Patterns may have commas.
		command.DisableSliceFlagSeparator = true
	}
	err := app.Run(ctx, args)
	if err == nil {
		return 0
	}
	if errors.Is(err, stage.ErrNeedsParts) {
		// The user was told, and it is no failure.
		return plan.ExitNeedsParts
	}
	c.Error("%v", err)
	var exit *process.ExitError
	if errors.As(err, &exit) && exit.Code > 0 {
		return exit.Code
	}
	return 1
}
