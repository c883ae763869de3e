package commands

import (
	"context"
	"errors"
	"fmt"

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
		Action: onEntries(env, log, verify),
	}
}

func verify(ctx context.Context, c *cli.Command, e entries) error {
	name, url, token := c.String("name"), c.String("url"), c.String("token")
	all := name == "" && url == "" && token == ""
	var invalid []*config.Runner
	found := false
	for _, runner := range e.file.Runners {
		if !all && (name == "" || runner.Name != name) && (token == "" || runner.Token != token || url != "" && runner.URL != url) {
			continue
		}
		found = true
		info := e.client.RunnerInfo(runner, new(docker.Provider).Features(), "", e.file.Labels)
		_, err := e.client.VerifyRunner(ctx, network.CredentialsOf(runner), runner.SystemID, info)
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
	if err := e.remove(invalid...); err != nil {
		return err
	}
	e.log.Infof("Removed %d runners from %q", len(invalid), e.file.Path)
	return nil
}
