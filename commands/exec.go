package commands

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/localrun"
	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/pipeline"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

const (
	flagPipeline    = "pipeline"
	flagNeeds       = "needs"
	flagListJobs    = "list"
	flagFile        = "file"
	flagRunner      = "runner"
	flagDockerImage = "docker-image"
	flagEnv         = "env"
	flagTimeout     = "timeout"
	flagConcurrency = "concurrency"
	flagSkip        = "skip-unsupported"

	executorDocker     = "docker"
	executorAutoscaler = "docker-autoscaler"
	defaultImage       = "alpine:latest"
	defaultConcurrency = 4
	// execShutdown bounds how long executors may take to give up what they hold.
	execShutdown = 3 * time.Minute
	// execIdleTime is how long an instance is kept for a further job of the same run.
	execIdleTime = 2 * time.Minute
)

func execCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run jobs of .gitlab-ci.yml without a GitLab",
		ArgsUsage: "[docker|docker-autoscaler] JOB",
		Description: "Examples:\n" +
			"  gitlab-runner exec test\n" +
			"  gitlab-runner exec --needs deploy\n" +
			"  gitlab-runner exec --pipeline --concurrency 2\n" +
			"  gitlab-runner exec docker-autoscaler --config config.toml --runner ci test\n\n" +
			"Jobs get the files of the working tree as they are, changes that are not\n" +
			"committed included, but for those that git ignores. See docs/exec.md for what\n" +
			"of the file is supported. The exit code is 1 if a job failed that must not.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: flagPipeline, Usage: "run all jobs, in the order of stages and needs"},
			&cli.BoolFlag{Name: flagNeeds, Usage: "run what JOB needs before it"},
			&cli.BoolFlag{Name: flagListJobs, Usage: "print the jobs and run none"},
			&cli.StringFlag{Name: flagFile, Aliases: []string{"f"}, Value: pipeline.DefaultFile, Usage: "read the pipeline from `FILE` of the working tree"},
			&cli.StringFlag{Name: flagConfig, Aliases: []string{"c"}, Usage: "take an entry's settings from the configuration in `FILE`"},
			&cli.StringFlag{Name: flagRunner, Usage: "take those of the entry called `NAME`"},
			&cli.StringFlag{Name: flagDockerImage, Usage: "run jobs that name no image in `IMAGE`", Sources: cli.EnvVars("DOCKER_IMAGE")},
			&cli.StringSliceFlag{Name: flagEnv, Aliases: []string{"e"}, Usage: "set a variable: `KEY=VALUE`; without =VALUE from the environment"},
			&cli.DurationFlag{Name: flagTimeout, Value: time.Hour, Usage: "end jobs that name no timeout after `TIME`"},
			&cli.IntFlag{Name: flagConcurrency, Value: defaultConcurrency, Usage: "run up to `N` jobs at once"},
			&cli.BoolFlag{Name: flagSkip, Usage: "leave jobs out that need what only a GitLab has"},
		},
		DisableSliceFlagSeparator: true,
		Action: func(ctx context.Context, c *cli.Command) error {
			return execJobs(ctx, env, log, c)
		},
	}
}

// execRequest is what the command line asks for.
type execRequest struct {
	executor string
	job      string
	// all and list are the flags.
	all, list bool
	overrides variables.List
}

func readExecRequest(c *cli.Command) (execRequest, error) {
	r := execRequest{all: c.Bool(flagPipeline), list: c.Bool(flagListJobs)}
	args := c.Args().Slice()
	if len(args) > 0 && (args[0] == executorDocker || args[0] == executorAutoscaler) && (len(args) > 1 || r.all || r.list) {
		r.executor, args = args[0], args[1:]
	}
	switch {
	case len(args) > 1:
		return r, fmt.Errorf("exec takes one job, not %d: %s; flags stand before it", len(args), strings.Join(args, " "))
	case len(args) == 1 && r.all:
		return r, fmt.Errorf("--pipeline runs all jobs: leave %q or the flag out", args[0])
	case len(args) == 0 && !r.all && !r.list:
		return r, errors.New("name a job, or use --pipeline for all of them and --list to see them")
	case len(args) == 1:
		r.job = args[0]
	}
	if c.Int(flagConcurrency) < 1 {
		return r, fmt.Errorf("--concurrency is %d: it must be at least 1", c.Int(flagConcurrency))
	}
	if c.Duration(flagTimeout) < time.Second {
		return r, fmt.Errorf("--timeout is %s: it must be at least 1s", c.Duration(flagTimeout))
	}
	for _, entry := range c.StringSlice(flagEnv) {
		key, value, given := strings.Cut(entry, "=")
		if key == "" {
			return r, fmt.Errorf("--env %q is not of the form KEY=VALUE", entry)
		}
		if !given {
			if value, given = os.LookupEnv(key); !given {
				return r, fmt.Errorf("--env %s: the environment has no such variable", key)
			}
		}
		r.overrides = append(r.overrides, spec.Variable{Key: key, Value: value, Public: true})
	}
	return r, nil
}

func execJobs(ctx context.Context, env Environment, log *logrus.Logger, c *cli.Command) error {
	request, err := readExecRequest(c)
	if err != nil {
		return err
	}
	if c.String(flagLogLevel) == "" && !c.Bool(flagDebug) {
		log.SetLevel(logrus.ErrorLevel)
	}
	console := &localrun.Console{Out: env.Stdout, Colour: colourful(env.Stdout)}
	ctx, stop := cancelOnSignal(ctx, console)
	defer stop()

	scratch, err := os.MkdirTemp("", "gitlab-runner-exec-")
	if err != nil {
		return fmt.Errorf("making a directory for the run: %w", err)
	}
	defer os.RemoveAll(scratch)
	tree, err := localrun.OpenTree(ctx, ".", scratch)
	if err != nil {
		return err
	}
	defer tree.Close()
	started := time.Now()
	p, err := pipeline.Compile(pipeline.Options{
		File: path.Clean(c.String(flagFile)), Read: tree.Read, Exists: tree.Exists,
		Predefined: tree.Predefined(started), Overrides: request.overrides, Ref: tree.Ref, Tag: tree.Tag,
	})
	if err != nil {
		return fmt.Errorf("the pipeline cannot be read: %w", err)
	}
	for _, warning := range p.Warnings {
		console.Warn("%s", warning)
	}
	if request.list {
		return listJobs(env.Stdout, p)
	}
	jobs, err := chosenJobs(p, request, c.Bool(flagNeeds), console)
	if err != nil {
		return err
	}
	runner, err := execRunner(c, request.executor, tree)
	if err != nil {
		return err
	}
	if tree.Changed() {
		console.Say("Jobs get the working tree of %s with its changes, as commit %.8s", tree.Ref, tree.Sha)
	} else {
		console.Say("Jobs get commit %.8s of %s", tree.Sha, tree.Ref)
	}
	return execRun(ctx, env, log, runner, localrun.Options{
		Tree: tree, Pipeline: p, Jobs: jobs, Alone: !request.all, LeaveOut: c.Bool(flagSkip),
		Concurrency: c.Int(flagConcurrency), Timeout: c.Duration(flagTimeout), Overrides: request.overrides,
		Scratch: scratch, Console: console, Started: started,
	})
}

// execRun runs the jobs on the entry's executor.
func execRun(ctx context.Context, env Environment, log *logrus.Logger, runner *config.Runner, o localrun.Options) error {
	registry := prometheus.NewRegistry()
	all, _ := providers(env, log, registry, o.Scratch)
	provider := all[runner.Executor]
	provider.Reload([]*config.Runner{runner})
	cache, err := newCaches(log, registry).of(runner)
	if err != nil {
		return fmt.Errorf("the distributed cache cannot be used: %w", err)
	}
	o.Provider, o.Runner, o.RemoteCache = provider, runner, cache
	o.Version, o.Log = env.Version, quiet(log)
	if o.Hostname, err = os.Hostname(); err != nil {
		log.WithError(err).Warning("the name of this machine is unknown")
	}
	outcomes, err := localrun.Run(ctx, o)
	if len(outcomes) > 0 {
		o.Console.Summary(outcomes)
	}
	ending, stop := context.WithTimeout(context.WithoutCancel(ctx), execShutdown)
	defer stop()
	if runner.Autoscaler != nil {
		o.Console.Say("Removing the instances")
	}
	provider.Shutdown(ending)
	if ending.Err() != nil {
		return errors.Join(err, fmt.Errorf("%s did not give up what it holds within %s: look for instances that are left", runner.Executor, execShutdown))
	}
	return err
}

// quiet is the process log for builds, whose lines the user sees in the job log already.
func quiet(log *logrus.Logger) logrus.FieldLogger {
	if log.IsLevelEnabled(logrus.DebugLevel) {
		return log
	}
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	return silent
}

// cancelOnSignal ends the context with the first signal. The second one has the system's effect.
func cancelOnSignal(ctx context.Context, console *localrun.Console) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	received := make(chan os.Signal, 1)
	signal.Notify(received, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-received:
			signal.Stop(received)
			console.Warn("cancelling the jobs and cleaning up; a second signal ends this at once and leaves things behind")
			cancel(common.Fail(common.JobCanceled, common.ErrJobCanceled))
		case <-done:
			signal.Stop(received)
		}
	}()
	return ctx, func() {
		close(done)
		<-ended
		cancel(nil)
	}
}

// colourful says whether a writer is a terminal whose user wants colours.
func colourful(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isatty.IsTerminal(file.Fd())
}

func listJobs(out io.Writer, p *pipeline.Pipeline) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "JOB\tSTAGE\tWHEN\tNEEDS\tNOTE")
	for _, stage := range p.Stages {
		for _, job := range p.Jobs {
			if job.Stage != stage {
				continue
			}
			needs := "stages before"
			if !job.Staged {
				var names []string
				for _, need := range job.Needs {
					if !slices.Contains(names, need.Job.Name) {
						names = append(names, need.Job.Name)
					}
				}
				if needs = strings.Join(names, ", "); needs == "" {
					needs = "nothing"
				}
			}
			note := ""
			if len(job.Unsupported) > 0 {
				note = "not supported: " + strings.Join(job.Unsupported, ", ")
			} else if job.AllowFailure {
				note = "may fail"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", job.Name, job.Stage, job.When, needs, note)
		}
	}
	if len(p.Excluded) > 0 {
		fmt.Fprintf(table, "\nNot in this pipeline, by their rules: %s\n", strings.Join(p.Excluded, ", "))
	}
	return table.Flush()
}

// chosenJobs are the jobs to run.
func chosenJobs(p *pipeline.Pipeline, request execRequest, withNeeds bool, console *localrun.Console) ([]*pipeline.Job, error) {
	if request.all {
		return p.Jobs, nil
	}
	jobs := p.Job(request.job)
	switch {
	case len(jobs) == 0 && slices.Contains(p.Excluded, request.job):
		return nil, fmt.Errorf("the rules of %q keep it out of this pipeline: set the variables that they look at with --env", request.job)
	case len(jobs) == 0:
		return nil, fmt.Errorf("there is no job %q: see gitlab-runner exec --list", request.job)
	case withNeeds:
		return localrun.WithNeeds(p, jobs), nil
	}
	var missing []string
	for _, job := range jobs {
		for _, need := range job.Needs {
			if need.Artifacts && len(need.Job.Artifacts) > 0 && !slices.Contains(missing, need.Job.Name) {
				missing = append(missing, need.Job.Name)
			}
		}
	}
	if len(missing) > 0 {
		console.Warn("the artifacts of %s are not there: --needs runs such jobs before", strings.Join(missing, ", "))
	}
	return jobs, nil
}

// execRunner is the entry that jobs run with: one of the configuration, or one of our own.
func execRunner(c *cli.Command, executor string, tree *localrun.Tree) (*config.Runner, error) {
	runner := &config.Runner{Name: "exec", Docker: &config.Docker{PullPolicy: config.StringOrArray{"if-not-present"}}}
	switch file := c.String(flagConfig); {
	case file != "":
		found, err := configuredRunner(file, c.String(flagRunner), executor)
		if err != nil {
			return nil, err
		}
		runner = found
	case c.String(flagRunner) != "":
		return nil, errors.New("--runner names an entry of the configuration: say with --config which file it is in")
	case executor == executorAutoscaler:
		return nil, errors.New("docker-autoscaler needs an entry with [runners.autoscaler]: say with --config which file it is in")
	}
	if executor != "" {
		runner.Executor = executor
	}
	if runner.Executor == "" {
		runner.Executor = executorDocker
	}
	if runner.Docker == nil {
		runner.Docker = &config.Docker{}
	}
	if _, chosen := runner.FeatureFlags[featureflags.Timestamps]; !chosen {
		flags := maps.Clone(runner.FeatureFlags)
		if flags == nil {
			flags = map[string]bool{}
		}
		flags[featureflags.Timestamps] = false
		runner.FeatureFlags = flags
	}
	if image := c.String(flagDockerImage); image != "" {
		runner.Docker.Image = image
	}
	if runner.Docker.Image == "" {
		runner.Docker.Image = defaultImage
	}
	// Nothing of this run is to be taken for something of a manager with the same entry; caches stay with
	// the working tree.
	sum := sha256.Sum256([]byte(tree.Dir + "\x00" + runner.Name))
	runner.ID, runner.Token, runner.URL = 0, "exec"+hex.EncodeToString(sum[:8]), "http://127.0.0.1"
	runner.SystemID = "s_exec"
	if c.String(flagConfig) == "" {
		// A later run finds the caches again, whichever jobs run beside each other.
		runner.Docker.Volumes = []string{"gitlab-runner-" + runner.Token + ":/cache"}
	}
	if runner.Executor != executorAutoscaler {
		runner.Autoscaler = nil
		return runner, nil
	}
	if runner.Autoscaler == nil {
		return nil, fmt.Errorf("entry %q has no [runners.autoscaler], which docker-autoscaler needs", runner.Name)
	}
	// Instances are made for the jobs at hand, and removed with them.
	runner.Autoscaler.DeleteInstancesOnShutdown = true
	runner.Autoscaler.Policy = []config.Policy{{IdleTime: execIdleTime}}
	return runner, nil
}

// configuredRunner is the entry of a file that is named, or the first one for the executor.
func configuredRunner(file, name, executor string) (*config.Runner, error) {
	if _, err := os.Stat(file); err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	loaded, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	for _, runner := range loaded.Runners {
		known := runner.Executor == executorDocker || runner.Executor == executorAutoscaler
		switch {
		case name != "" && runner.Name == name:
			if !known && executor == "" {
				return nil, fmt.Errorf("entry %q of %s is for the executor %q: exec knows docker and docker-autoscaler", name, file, runner.Executor)
			}
			return runner, nil
		case name == "" && known && (executor == "" || runner.Executor == executor):
			return runner, nil
		}
	}
	if name != "" {
		return nil, fmt.Errorf("%s has no entry called %q", file, name)
	}
	return nil, fmt.Errorf("%s has no entry for the executor docker or docker-autoscaler", file)
}
