package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

func resetTokenCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:        "reset-token",
		Usage:       "exchange the authentication tokens of runners for new ones",
		Description: "Examples:\n  gitlab-runner reset-token --name build-01\n  gitlab-runner reset-token --all-runners",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "the runner `NAME`"},
			&cli.StringFlag{Name: "url", Aliases: []string{"u"}, Usage: "the runner of `URL` with --id"},
			&cli.Int64Flag{Name: "id", Aliases: []string{"i"}, Usage: "the runner of --url with `ID`"},
			&cli.BoolFlag{Name: "all-runners", HideDefault: true, Usage: "every runner"},
			&cli.StringFlag{Name: "pat", Usage: "use the personal access `TOKEN` instead of the runner's own"},
		},
		Action: onEntries(env, log, resetTokens),
	}
}

func resetTokens(ctx context.Context, c *cli.Command, e entries) error {
	name, url, id := c.String("name"), c.String("url"), c.Int64("id")
	all := c.Bool("all-runners")
	if !all && name == "" && (url == "" || id == 0) {
		return errors.New("which runner? Give --name, --url with --id, or --all-runners")
	}
	found := false
	for _, runner := range e.file.Runners {
		if !all && (name == "" || runner.Name != name) && (id == 0 || runner.ID != id || runner.URL != url) {
			continue
		}
		found = true
		identity, err := resetToken(ctx, e.client, runner, c.String("pat"))
		switch {
		case err == nil:
			// A new token that is lost is a runner that is lost: it is saved before the next one.
			if err := e.exchange(runner, identity); err != nil {
				return err
			}
		case all:
			e.log.WithError(err).WithField("runner_name", runner.Name).Error("The runner keeps its token")
		default:
			return err
		}
		if !all {
			return nil
		}
	}
	if !found && !all {
		return errors.New("no runner in the configuration matches --name, or --url and --id")
	}
	return nil
}

// exchange writes the new token of an entry into the configuration.
func (e entries) exchange(runner *config.Runner, identity network.RunnerIdentity) error {
	former := network.CredentialsOf(runner)
	return e.change(func(file *config.File) {
		for _, entry := range file.Runners {
			if network.CredentialsOf(entry) == former {
				entry.Token, entry.TokenObtainedAt, entry.TokenExpiresAt = identity.Token, identity.TokenObtainedAt, identity.TokenExpiresAt
			}
		}
	})
}

// resetToken exchanges an entry's token, with the rights of a person if pat is given.
func resetToken(ctx context.Context, client *network.Client, runner *config.Runner, pat string) (network.RunnerIdentity, error) {
	switch {
	case pat == "":
		return client.ResetToken(ctx, network.CredentialsOf(runner), runner.SystemID)
	case runner.ID == 0:
		return network.RunnerIdentity{}, fmt.Errorf("the id of runner %s is not in the configuration: it cannot be reset with --pat", runner.Name)
	default:
		return client.ResetTokenWithPAT(ctx, network.CredentialsOf(runner), runner.SystemID, runner.ID, pat)
	}
}
