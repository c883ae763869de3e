package main

import (
	"context"
	"net"
	"os"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/console"
	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/health"
)

func cacheInitCommand() *cli.Command {
	return &cli.Command{
		Name:      "cache-init",
		Usage:     "make directories that every user may write to",
		ArgsUsage: "PATH...",
		Action: func(_ context.Context, cmd *cli.Command) error {
			return health.InitCache(cmd.Args().Slice())
		},
	}
}

func healthCheckCommand(c *console.Console) *cli.Command {
	return &cli.Command{
		Name:  "health-check",
		Usage: "wait until a service accepts connections",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "port", Aliases: []string{"p"}, Usage: "port of this machine that has to answer; without, the environment tells host and ports"},
		},
		Action: func(ctx context.Context, cmd *cli.Command) error {
			target := health.Target{Host: "localhost", Ports: cmd.StringSlice("port"), All: true}
			if len(target.Ports) == 0 {
				var err error
				if target, err = health.FromEnvironment(os.Environ()); err != nil {
					return err
				}
			}
			return health.Wait(ctx, c, (&net.Dialer{}).DialContext, target)
		},
	}
}
