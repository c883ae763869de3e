package commands

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

// healthCheckCommand is for those who watch a manager from outside and know only success and failure.
func healthCheckCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:  "health-check",
		Usage: "succeed if the manager on this machine is running",
		Description: "Example:\n  gitlab-runner health-check --address 127.0.0.1:9252\n\n" +
			"It changes nothing. The manager needs a listen_address. One that is shutting\n" +
			"down is not healthy.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: flagAddress, Usage: "ask the manager at `ADDRESS`, not at listen_address of the configuration"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			client, err := fleetClient(c)
			if err != nil {
				return err
			}
			state, err := client.State(ctx)
			if err != nil {
				return err
			}
			if state != manager.Running {
				return fmt.Errorf("the manager takes no jobs: its state is %q", state)
			}
			_, err = fmt.Fprintln(env.Stdout, state)
			return err
		},
	}
}
