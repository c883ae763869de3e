package commands

import (
	"context"
	"slices"

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

// change changes the configuration as it is now, not as it was when the command began: others may have written it while
// GitLab was asked, such as a manager that exchanged a token.
func (e entries) change(do func(file *config.File)) error {
	file, err := config.Load(e.file.Path)
	if err != nil {
		return err
	}
	do(file)
	return file.Save()
}

// remove takes entries out of the configuration.
func (e entries) remove(runners ...*config.Runner) error {
	return e.change(func(file *config.File) {
		for _, runner := range runners {
			gone := network.CredentialsOf(runner)
			file.Runners = slices.DeleteFunc(file.Runners, func(r *config.Runner) bool { return network.CredentialsOf(r) == gone })
		}
	})
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
