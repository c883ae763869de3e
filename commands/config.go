package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker"
	dockerautoscaler "gitlab.com/gitlab-org/gitlab-runner/executors/docker/autoscaler"
)

func configCommand(env Environment) *cli.Command {
	return &cli.Command{
		Name:        "config",
		Usage:       "look after the configuration file",
		Description: "Example:\n  gitlab-runner config check",
		Flags:       []cli.Flag{configFlag()},
		Commands: []*cli.Command{
			{
				Name:  "check",
				Usage: "explain what is wrong with the configuration",
				Description: "Example:\n  gitlab-runner config check --config config.toml\n\n" +
					"Exits with 1 if there are errors. With an error, the file or a part of it\n" +
					"cannot be used; with a warning, it does not do what it says.",
				Flags: []cli.Flag{&cli.BoolFlag{Name: flagJSON, Usage: "print the findings as JSON"}},
				Action: func(_ context.Context, c *cli.Command) error {
					return checkConfig(env.Stdout, c.String(flagConfig), c.Bool(flagJSON))
				},
			},
		},
	}
}

// vocabulary is what a configuration of this program may name.
func vocabulary() config.Vocabulary {
	return config.Vocabulary{
		Executors:    []string{new(docker.Provider).Name(), dockerautoscaler.Name},
		FeatureFlags: slices.Sorted(maps.Keys(featureflags.Defaults())),
	}
}

func checkConfig(out io.Writer, path string, asJSON bool) error {
	findings, err := config.Check(path, vocabulary())
	if err != nil {
		return err
	}
	counts := map[config.Level]int{}
	for _, f := range findings {
		counts[f.Level]++
	}
	if asJSON {
		report := struct {
			File     string           `json:"file"`
			Valid    bool             `json:"valid"`
			Findings []config.Finding `json:"findings"`
		}{path, counts[config.LevelError] == 0, append([]config.Finding{}, findings...)}
		err = json.NewEncoder(out).Encode(report)
	} else {
		err = printFindings(out, path, findings)
	}
	if err != nil {
		return err
	}
	if n := counts[config.LevelError]; n > 0 {
		return fmt.Errorf("%s: %d errors, %d warnings", path, n, counts[config.LevelWarning])
	}
	if asJSON {
		return nil
	}
	if n := counts[config.LevelWarning]; n > 0 {
		_, err = fmt.Fprintf(out, "Configuration file is valid, with %d warnings.\n", n)
		return err
	}
	_, err = fmt.Fprintln(out, "Configuration file is valid.")
	return err
}

func printFindings(out io.Writer, path string, findings []config.Finding) error {
	var errs []error
	for _, f := range findings {
		_, err := fmt.Fprintf(out, "%s:%s\n", path, f)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
