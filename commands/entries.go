package commands

import (
	"context"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

// entries are the runners of a configuration, and a client to speak to their GitLabs.
type entries struct {
	file   *config.File
	client *network.Client
	log    *logrus.Logger
}

// onEntries is the action of a command that works on the runners of the configuration.
func onEntries(env Environment, log *logrus.Logger, do func(ctx context.Context, c *cli.Command, e entries) error) cli.ActionFunc {
	return func(ctx context.Context, c *cli.Command) error {
		announce(env, log, c)
		path := c.String(flagConfig)
		file, err := config.Load(path)
		if err != nil {
			return err
		}
		systemID, err := config.SystemID(path)
		if systemID == "" {
			return err
		}
		for _, runner := range file.Runners {
			runner.SystemID = systemID
		}
		client := network.New(network.Options{Version: env.Version, CertsDir: config.DefaultCertsDir(), Logger: log})
		defer client.Close()
		return do(ctx, c, entries{file: file, client: client, log: log})
	}
}
