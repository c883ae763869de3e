package commands

import (
	"context"
	"errors"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

func unregisterCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:        "unregister",
		Usage:       "remove a runner from GitLab and from the configuration",
		Description: "Example:\n  gitlab-runner unregister --name build-01",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "the runner `NAME`"},
			&cli.StringFlag{Name: "url", Aliases: []string{"u"}, Usage: "without effect: the `URL` is that of the entry", Sources: fromEnv("CI_SERVER_URL")},
			&cli.StringFlag{Name: "token", Aliases: []string{"t"}, Usage: "the runner with `TOKEN`", Sources: fromEnv("CI_SERVER_TOKEN")},
			&cli.StringFlag{Name: "tls-ca-file", Usage: "without effect: the `FILE` is that of the entry", Sources: fromEnv("CI_SERVER_TLS_CA_FILE")},
			&cli.StringFlag{Name: "tls-cert-file", Usage: "without effect: the `FILE` is that of the entry", Sources: fromEnv("CI_SERVER_TLS_CERT_FILE")},
			&cli.StringFlag{Name: "tls-key-file", Usage: "without effect: the `FILE` is that of the entry", Sources: fromEnv("CI_SERVER_TLS_KEY_FILE")},
			&cli.BoolFlag{Name: "all-runners", Usage: "every runner"},
		},
		Action: onEntries(env, log, unregisterChosen),
	}
}

func unregisterChosen(ctx context.Context, c *cli.Command, e entries) error {
	if c.Bool("all-runners") {
		return unregisterAll(ctx, e)
	}
	runner := findRunner(e.file, c.String("name"), c.String("token"))
	if runner == nil {
		return errors.New("no runner matches: give --name or --token of one in the configuration, or --all-runners")
	}
	if err := unregister(ctx, e.client, runner); err != nil {
		return err
	}
	return e.remove(runner)
}

// findRunner returns the entry with name and token, with the token, or with the name.
func findRunner(file *config.File, name, token string) *config.Runner {
	for _, runner := range file.Runners {
		if (name != "" || token != "") && (name == "" || runner.Name == name) && (token == "" || runner.Token == token) {
			return runner
		}
	}
	return nil
}

func unregisterAll(ctx context.Context, e entries) error {
	var gone []*config.Runner
	for _, runner := range e.file.Runners {
		if err := unregister(ctx, e.client, runner); err != nil {
			e.log.WithError(err).WithField("runner_name", runner.Name).Error("The runner stays in the configuration")
			continue
		}
		gone = append(gone, runner)
	}
	if len(gone) == 0 {
		return nil
	}
	return e.remove(gone...)
}

// unregister removes this machine from a runner that was created in GitLab, and any other runner as a
// whole.
func unregister(ctx context.Context, client *network.Client, runner *config.Runner) error {
	if strings.HasPrefix(runner.Token, config.AuthenticationTokenPrefix) {
		return client.UnregisterManager(ctx, network.CredentialsOf(runner), runner.SystemID)
	}
	return client.UnregisterRunner(ctx, network.CredentialsOf(runner))
}
