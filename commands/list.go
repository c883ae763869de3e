package commands

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

func listCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:        "list",
		Usage:       "list the runners in the configuration",
		Description: "Example:\n  gitlab-runner list",
		Flags:       []cli.Flag{configFlag()},
		Action: func(_ context.Context, c *cli.Command) error {
			announce(env, log, c)
			path := c.String(flagConfig)
			file, err := config.Load(path)
			if err != nil {
				log.WithError(err).Warning("The configuration cannot be listed")
				return nil
			}
			log.WithField("ConfigFile", path).Info("Listing configured runners")
			for _, runner := range file.Runners {
				log.WithFields(logrus.Fields{"Executor": runner.Executor, "Token": runner.Token, "URL": runner.URL}).Info(runner.Name)
			}
			return nil
		},
	}
}

func lintCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:        "lint",
		Usage:       "check the configuration, unknown keys included",
		Description: "Example:\n  gitlab-runner lint --config config.toml",
		Flags:       []cli.Flag{configFlag()},
		Action: func(_ context.Context, c *cli.Command) error {
			path := c.String(flagConfig)
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("reading the configuration: %w", err)
			}
			file, err := config.Load(path)
			if err != nil {
				return err
			}
			if len(file.Unknown) > 0 {
				fmt.Fprintf(env.Stdout, "%d unknown key(s) found in %s:\n", len(file.Unknown), path)
				for _, key := range file.Unknown {
					fmt.Fprintf(env.Stdout, "  unknown key: %s\n", key)
				}
				return errors.New("the configuration file has unknown keys")
			}
			_, err = fmt.Fprintln(env.Stdout, "Configuration file is valid.")
			return err
		},
	}
}
