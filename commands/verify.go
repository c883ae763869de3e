package commands

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

func verifyCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:        "verify",
		Usage:       "ask GitLab whether the configured runners are valid",
		Description: "Example:\n  gitlab-runner verify --delete",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "verify the runner `NAME` only"},
			&cli.StringFlag{Name: "url", Aliases: []string{"u"}, Usage: "verify the runner of `URL` and --token only"},
			&cli.StringFlag{Name: "token", Aliases: []string{"t"}, Usage: "verify the runner with `TOKEN` only"},
			&cli.BoolFlag{Name: "delete", Usage: "remove runners that are not valid from the configuration"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			announce(env, log, c)
			file, client, err := openConfig(env, log, c)
			if err != nil {
				return err
			}
			defer client.Close()
			return verify(ctx, log, c, file, client)
		},
	}
}

// openConfig loads the configuration of a command and makes a client for its runners.
func openConfig(env Environment, log *logrus.Logger, c *cli.Command) (*config.File, *network.Client, error) {
	path := c.String(flagConfig)
	file, err := config.Load(path)
	if err != nil {
		return nil, nil, err
	}
	systemID, err := config.SystemID(path)
	if systemID == "" {
		return nil, nil, err
	}
	for _, runner := range file.Runners {
		runner.SystemID = systemID
	}
	return file, network.New(network.Options{Version: env.Version, CertsDir: config.DefaultCertsDir(), Logger: log}), nil
}

func verify(ctx context.Context, log *logrus.Logger, c *cli.Command, file *config.File, client *network.Client) error {
	name, url, token := c.String("name"), c.String("url"), c.String("token")
	all := name == "" && url == "" && token == ""
	var invalid []*config.Runner
	found := false
	for _, runner := range file.Runners {
		if !all && (name == "" || runner.Name != name) && (token == "" || runner.Token != token || url != "" && runner.URL != url) {
			continue
		}
		found = true
		info := client.RunnerInfo(runner, new(docker.Provider).Features(), "", file.Labels)
		_, err := client.VerifyRunner(ctx, network.CredentialsOf(runner), runner.SystemID, info)
		if errors.Is(err, network.ErrForbidden) {
			invalid = append(invalid, runner)
		}
	}
	switch {
	case !found && !all:
		return errors.New("no runner matches --name, or --url and --token")
	case len(invalid) == 0:
		return nil
	case !c.Bool("delete"):
		return fmt.Errorf("%d of the runners failed the verification: remove them with --delete", len(invalid))
	}
	file.Runners = slices.DeleteFunc(file.Runners, func(r *config.Runner) bool { return slices.Contains(invalid, r) })
	if err := file.Save(); err != nil {
		return err
	}
	log.Infof("Removed %d runners from %q", len(invalid), file.Path)
	return nil
}
