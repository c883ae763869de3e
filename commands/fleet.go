package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/statuspage"
	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/autoscaler"
)

const flagAddress = "address"

func fleetCommand(env Environment) *cli.Command {
	address := func() cli.Flag {
		return &cli.StringFlag{Name: flagAddress, Usage: "ask the manager at `ADDRESS`, not at listen_address of the configuration"}
	}
	runner := func(usage string) cli.Flag {
		return &cli.StringFlag{Name: flagRunner, Aliases: []string{"r"}, Usage: usage}
	}
	return &cli.Command{
		Name:  "fleet",
		Usage: "show and steer the running manager and its instances",
		Description: "Examples:\n  gitlab-runner fleet status\n  gitlab-runner fleet pause --runner build-01\n" +
			"  gitlab-runner fleet drain i-0123456789\n\n" +
			"It asks `gitlab-runner run` on this machine, which needs a listen_address.\n" +
			"What is paused takes jobs again after a restart of the manager.",
		Action: func(_ context.Context, c *cli.Command) error {
			return fmt.Errorf("unknown command %q: use status, drain, pause or resume", c.Args().First())
		},
		Commands: []*cli.Command{
			{
				Name: "status", Usage: "show runners, jobs, instances and the latest decisions",
				Description: "Example:\n  gitlab-runner fleet status --runner build-01",
				Flags:       []cli.Flag{configFlag(), address(), runner("show the runner `NAME` only"), &cli.BoolFlag{Name: flagJSON, Usage: "print the JSON of the manager"}},
				Action: func(ctx context.Context, c *cli.Command) error {
					client, err := fleetClient(c)
					if err != nil {
						return err
					}
					status, data, err := client.Status(ctx)
					if err != nil {
						return err
					}
					if c.Bool(flagJSON) {
						_, err := env.Stdout.Write(data)
						return err
					}
					return printStatus(env.Stdout, status, c.String(flagRunner))
				},
			},
			{
				Name: "drain", Usage: "let an instance take no more jobs, and remove it when it has none", ArgsUsage: "INSTANCE",
				Description: "Example:\n  gitlab-runner fleet drain i-0123456789",
				Flags:       []cli.Flag{configFlag(), address(), runner("drain an instance of the runner `NAME`")},
				Action: func(ctx context.Context, c *cli.Command) error {
					if c.Args().Len() != 1 {
						return errors.New("name one instance to drain; gitlab-runner fleet status lists them")
					}
					client, err := fleetClient(c)
					if err != nil {
						return err
					}
					instance := c.Args().First()
					if _, err := client.Act(ctx, "drain", statuspage.Action{Runner: c.String(flagRunner), Instance: instance}); err != nil {
						return err
					}
					_, err = fmt.Fprintf(env.Stdout, "Instance %s takes no more jobs and is removed when it has none.\n", instance)
					return err
				},
			},
			pausing(env, "pause", "let a runner take no new jobs; those that run go on", "takes no new jobs until it is resumed or the manager is restarted", address(), runner("pause the runner `NAME` only")),
			pausing(env, "resume", "let a paused runner take jobs again", "takes jobs", address(), runner("resume the runner `NAME` only")),
		},
	}
}

func pausing(env Environment, name, usage, outcome string, flags ...cli.Flag) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, Description: "Example:\n  gitlab-runner fleet " + name + " --runner build-01",
		Flags: append([]cli.Flag{configFlag()}, flags...),
		Action: func(ctx context.Context, c *cli.Command) error {
			if c.Args().Present() {
				return fmt.Errorf("%s takes no argument: name the runner with --runner", name)
			}
			client, err := fleetClient(c)
			if err != nil {
				return err
			}
			answer, err := client.Act(ctx, name, statuspage.Action{Runner: c.String(flagRunner)})
			if err != nil {
				return err
			}
			for _, runner := range answer.Runners {
				if _, err := fmt.Fprintf(env.Stdout, "Runner %s %s.\n", runner, outcome); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// fleetClient is a client of the manager that the flags or the configuration name.
func fleetClient(c *cli.Command) (*statuspage.Client, error) {
	if address := c.String(flagAddress); address != "" {
		return statuspage.NewClient(address), nil
	}
	file, err := config.Load(c.String(flagConfig))
	if err != nil {
		return nil, err
	}
	if file.ListenAddress == "" {
		return nil, fmt.Errorf("%s has no listen_address, so that the manager cannot be asked: set it, for example to 127.0.0.1:9252, and restart the manager, or name its address with --%s", file.Path, flagAddress)
	}
	return statuspage.NewClient(file.ListenAddress), nil
}

// latestEvents is how many decisions are printed of each fleet.
const latestEvents = 10

func printStatus(out io.Writer, s manager.Status, only string) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { fmt.Fprintln(table, strings.Join(cells, "\t")) }
	shown := func(runner, name string) bool { return only == "" || only == runner || only == name }
	age := func(t time.Time) string { return s.At.Sub(t).Round(time.Second).String() }
	found := false

	line("RUNNER", "TOKEN", "EXECUTOR", "JOBS", "LIMIT", "STATE")
	for _, r := range s.Runners {
		if !shown(r.Runner, r.Name) {
			continue
		}
		found = true
		line(r.Name, r.Runner, r.Executor, fmt.Sprint(r.Jobs), unlimited(r.Limit), runnerState(r))
	}
	if only != "" && !found {
		return fmt.Errorf("%w: %q", manager.ErrUnknownRunner, only)
	}
	line()
	line("JOB", "RUNNER", "STAGE", "AGE", "INSTANCE")
	for _, j := range s.Jobs {
		if shown(j.Runner, j.RunnerName) {
			line(fmt.Sprint(j.ID), j.RunnerName, orDash(j.Stage), age(j.Started), orDash(j.Instance))
		}
	}
	for _, f := range s.Fleets {
		if shown(f.Runner, f.RunnerName) {
			printFleet(line, f, age)
		}
	}
	return table.Flush()
}

func printFleet(line func(...string), f autoscaler.FleetStatus, age func(time.Time) string) {
	line()
	line("INSTANCE of "+f.RunnerName, "STATE", "SLOTS", "USES", "AGE", "REMOVAL")
	for _, in := range f.Instances {
		line(in.ID, string(in.Condition), fmt.Sprintf("%d/%d", len(in.Tasks), f.CapacityPerInstance),
			fmt.Sprintf("%d/%s", in.Used, unlimited(f.MaxUseCount)), age(in.Found), orDash(in.Removal))
	}
	line()
	line("DECISION of "+f.RunnerName, "AGO", "INSTANCE", "REASON")
	for _, e := range f.Events[max(0, len(f.Events)-latestEvents):] {
		what := string(e.Kind)
		if e.Count > 1 {
			what += fmt.Sprintf(" %d", e.Count)
		}
		line(what, age(e.At), orDash(e.Instance), orDash(e.Reason))
	}
}

func runnerState(r manager.RunnerStatus) string {
	switch {
	case r.Paused:
		return "paused"
	case r.Unhealthy:
		return "unhealthy"
	}
	return "active"
}

func unlimited(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
