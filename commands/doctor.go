package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker"
	dockerautoscaler "gitlab.com/gitlab-org/gitlab-runner/executors/docker/autoscaler"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/diagnosis"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

const (
	flagCreate = "create"
	flagName   = "name"

	stepConfig = "config"
	stepGitLab = "gitlab"

	// examineGitLab bounds the question to GitLab.
	examineGitLab = 20 * time.Second
	// examineAll bounds everything, unless the flag says otherwise. An instance may have to boot.
	examineAll = 10 * time.Minute
)

func doctorCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "try whether the runners can do their work",
		Description: "Example:\n  gitlab-runner doctor --config /etc/gitlab-runner/config.toml\n\n" +
			"Asks GitLab about the token, starts the plugin, looks at its group, and\n" +
			"connects to an instance. Each line is ok, warn or fail, with what to do.\n" +
			"Exits with 1 if one of them is fail.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: flagName, Aliases: []string{"n"}, Usage: "examine the runner `NAME` only"},
			&cli.BoolFlag{Name: flagCreate, Usage: "make an instance for it if there is none"},
			&cli.BoolFlag{Name: flagJSON, Usage: "print the result as JSON"},
			&cli.DurationFlag{Name: flagTimeout, Value: examineAll, Usage: "give up after `DURATION`"},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			// Who interrupts does not want an instance to stay that was made.
			ctx, end := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
			defer end()
			ctx, stop := context.WithTimeoutCause(ctx, c.Duration(flagTimeout), fmt.Errorf("the %s of --timeout are over", c.Duration(flagTimeout)))
			defer stop()
			d := &doctor{env: env, log: quiet(log), create: c.Bool(flagCreate)}
			if !c.Bool(flagJSON) {
				d.out = env.Stdout
			}
			d.run(ctx, c.String(flagConfig), c.String(flagName))
			return d.conclude(c.Bool(flagJSON))
		},
	}
}

// finding is a step with the runner entry that it is about.
type finding struct {
	Runner string `json:"runner,omitempty"`
	diagnosis.Step
}

// doctor examines the entries one after the other.
type doctor struct {
	env Environment
	// log takes what the parts say that are examined, which is in the report already.
	log    logrus.FieldLogger
	create bool
	// out is where steps are printed as they are reported, nil for nowhere.
	out      io.Writer
	findings []finding
	written  error
}

// about returns the report of a runner entry, or of the file if the name is empty.
func (d *doctor) about(runner string) diagnosis.Report {
	return func(s diagnosis.Step) {
		d.findings = append(d.findings, finding{runner, s})
		if d.out == nil {
			return
		}
		_, err := fmt.Fprintf(d.out, "  %-4s  %-12s  %s\n", s.State, s.Name, s.Detail)
		d.written = errors.Join(d.written, err)
		if s.Remedy != "" {
			_, err := fmt.Fprintf(d.out, "        %-12s  -> %s\n", "", s.Remedy)
			d.written = errors.Join(d.written, err)
		}
	}
}

func (d *doctor) title(format string, args ...any) {
	if d.out != nil {
		_, err := fmt.Fprintf(d.out, format+"\n", args...)
		d.written = errors.Join(d.written, err)
	}
}

func (d *doctor) run(ctx context.Context, path, only string) {
	d.title("%s", path)
	file, ok := d.examineConfig(path)
	if !ok {
		return
	}
	systemID, err := config.SystemID(path)
	if systemID == "" {
		d.about("").Fail(stepConfig, err.Error(), "make the directory writable for this user")
		return
	}
	client := network.New(network.Options{Version: d.env.Version, CertsDir: config.DefaultCertsDir(), Logger: d.log})
	defer client.Close()
	examined := 0
	for _, runner := range file.Runners {
		if only != "" && runner.Name != only {
			continue
		}
		examined++
		runner.SystemID = systemID
		d.title("\nrunner %q (%s)", runner.Name, runner.ShortToken())
		d.examineGitLab(ctx, client, file, runner)
		d.examineExecutor(ctx, runner, filepath.Dir(path))
	}
	switch {
	case examined == 0 && only != "":
		d.about("").Fail(stepConfig, fmt.Sprintf("no runner entry has the name %q", only), "see gitlab-runner list")
	case examined == 0:
		d.about("").Warn(stepConfig, "there is no runner entry", "add one with gitlab-runner register")
	}
}

// examineConfig says how many findings there are; config check says which.
func (d *doctor) examineConfig(path string) (*config.File, bool) {
	remedy := "see gitlab-runner config check --config " + path
	report := d.about("")
	findings, err := config.Check(path, vocabulary())
	if err != nil {
		report.Fail(stepConfig, err.Error(), "name the file with --config, or add a runner with gitlab-runner register")
		return nil, false
	}
	counts := map[config.Level]int{}
	for _, f := range findings {
		counts[f.Level]++
	}
	file, err := config.Load(path)
	switch {
	case err != nil:
		report.Fail(stepConfig, err.Error(), remedy)
		return nil, false
	case len(findings) == 0:
		report.OK(stepConfig, "nothing to say")
	case counts[config.LevelError] > 0:
		report.Fail(stepConfig, fmt.Sprintf("%d errors, %d warnings", counts[config.LevelError], counts[config.LevelWarning]), remedy)
	default:
		report.Warn(stepConfig, fmt.Sprintf("%d warnings", counts[config.LevelWarning]), remedy)
	}
	return file, true
}

func (d *doctor) examineGitLab(ctx context.Context, client *network.Client, file *config.File, runner *config.Runner) {
	report := d.about(runner.Name)
	ctx, stop := context.WithTimeoutCause(ctx, examineGitLab, fmt.Errorf("no answer within %s", examineGitLab))
	defer stop()
	info := client.RunnerInfo(runner, new(docker.Provider).Features(), "", file.Labels)
	identity, err := client.VerifyRunner(ctx, network.CredentialsOf(runner), runner.SystemID, info)
	switch {
	case errors.Is(err, network.ErrForbidden):
		report.Fail(stepGitLab, fmt.Sprintf("%s does not know the token, or no longer", runner.URL),
			"look for the runner in GitLab; register it again, or remove the entry with gitlab-runner verify --delete")
	case err != nil:
		report.Fail(stepGitLab, fmt.Sprintf("%s: %v", runner.URL, err),
			"check url, proxy and firewall; for a certificate of your own set tls-ca-file")
	case identity.ID != 0 && runner.ID != 0 && identity.ID != runner.ID:
		report.Warn(stepGitLab, fmt.Sprintf("%s knows the token as that of runner %d, the key id is %d", runner.URL, identity.ID, runner.ID), "correct the key id")
	default:
		report.OK(stepGitLab, fmt.Sprintf("%s knows the token", runner.URL))
	}
}

func (d *doctor) examineExecutor(ctx context.Context, runner *config.Runner, configDir string) {
	report := d.about(runner.Name)
	local := docker.NewProvider(docker.Options{Version: d.env.Version, Log: d.log})
	switch runner.Executor {
	case local.Name():
		local.Examine(ctx, runner, nil, report)
	case dockerautoscaler.Name:
		dockerautoscaler.NewProvider(local, dockerautoscaler.Options{
			Plugins: dockerautoscaler.PluginProcesses{}, Connect: connector.Dial, Log: d.log,
			Metrics: prometheus.NewRegistry(), StateDir: filepath.Join(configDir, ".taskscaler"),
		}).Examine(ctx, runner, d.create, report)
	default:
		report.Fail("executor", fmt.Sprintf("this runner has no executor %q", runner.Executor), "use docker or docker-autoscaler")
	}
}

// conclude prints the result as JSON if asked to, and fails if something else did.
func (d *doctor) conclude(asJSON bool) error {
	failed := 0
	for _, f := range d.findings {
		if f.State == diagnosis.Fail {
			failed++
		}
	}
	if asJSON {
		err := json.NewEncoder(d.env.Stdout).Encode(struct {
			OK    bool      `json:"ok"`
			Steps []finding `json:"steps"`
		}{failed == 0, d.findings})
		d.written = errors.Join(d.written, err)
	}
	if d.written != nil {
		return fmt.Errorf("printing the result: %w", d.written)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d steps failed", failed, len(d.findings))
	}
	return nil
}
