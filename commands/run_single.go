package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

func runSingleCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:  "run-single",
		Usage: "run jobs of one runner, without a configuration file",
		Description: "Example:\n" +
			"  gitlab-runner run-single --url https://gitlab.example.com --token glrt-… \\\n" +
			"    --executor docker --docker-image busybox --max-builds 1",
		DisableSliceFlagSeparator: true,
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: flagConfig, Aliases: []string{"c"}, Usage: "take the entry of --runner from `FILE`", Sources: fromEnv("CONFIG_FILE")},
			&cli.StringFlag{Name: "runner", Aliases: []string{"r"}, Usage: "the `NAME` of an entry: it replaces all other flags"},
			&cli.IntFlag{Name: "wait-timeout", Usage: "end after `SECONDS` without a job (0: never)"},
			&cli.IntFlag{Name: "max-builds", Usage: "end after `N` jobs (0: never)"},
			&cli.IntFlag{Name: "shutdown-timeout", Value: 30, Usage: "give aborted jobs `SECONDS` to clean up"},
			&cli.StringFlag{Name: "name", Aliases: []string{"description"}, Usage: "`NAME` of the runner", Sources: fromEnv("RUNNER_NAME")},
			&cli.StringFlag{Name: "url", Aliases: []string{"u"}, Usage: "`URL` of GitLab", Sources: fromEnv("CI_SERVER_URL")},
			&cli.StringFlag{Name: "token", Aliases: []string{"t"}, Usage: "authentication `TOKEN` of the runner", Sources: fromEnv("CI_SERVER_TOKEN")},
			&cli.StringFlag{Name: "executor", Usage: "run jobs with `EXECUTOR`: docker or docker-autoscaler", Sources: fromEnv("RUNNER_EXECUTOR")},
		}, entryFlagsOf()...),
		Action: func(_ context.Context, c *cli.Command) error {
			announce(env, log, c)
			runner, dir, err := singleRunner(log, c)
			if err != nil {
				return err
			}
			return runSingle(env, log, c, runner, dir)
		},
	}
}

// singleRunner returns the entry that the flags name or make, and the directory of its file.
func singleRunner(log *logrus.Logger, c *cli.Command) (*config.Runner, string, error) {
	runner, dir := &config.Runner{
		Name: c.String("name"), URL: c.String("url"), Token: c.String("token"), Executor: c.String("executor"), Docker: &config.Docker{},
	}, config.DefaultDir()
	if path := c.String(flagConfig); path != "" {
		dir = filepath.Dir(path)
	}
	if name := c.String("runner"); name != "" {
		path := c.String(flagConfig)
		if path == "" {
			return nil, "", errors.New("--runner names an entry of a file: give --config, too")
		}
		file, err := config.Load(path)
		if err != nil {
			return nil, "", err
		}
		i := slices.IndexFunc(file.Runners, func(r *config.Runner) bool { return r.Name == name })
		if i < 0 {
			return nil, "", fmt.Errorf("no runner in %s has the name %q", path, name)
		}
		runner = file.Runners[i]
	} else {
		ignored, err := applyEntryFlags(c, runner)
		if err != nil {
			return nil, "", err
		}
		for _, name := range ignored {
			log.Warningf("%s has no effect: this runner has no such executor", name)
		}
	}
	for _, required := range []struct{ name, value string }{{"url", runner.URL}, {"token", runner.Token}, {"executor", runner.Executor}} {
		if required.value == "" {
			return nil, "", fmt.Errorf("the %s is missing: give --%s", required.name, required.name)
		}
	}
	if runner.Name == "" {
		runner.Name = hostname()
	}
	return runner, dir, nil
}

// What a single runner does after an answer that says it is not welcome.
const singleUnhealthyPause = 5 * time.Minute

func runSingle(env Environment, log *logrus.Logger, c *cli.Command, runner *config.Runner, dir string) error {
	pause := singleUnhealthyPause
	runner.Limit, runner.RequestConcurrency, runner.StrictCheckInterval = 1, 1, true
	runner.UnhealthyRequestsLimit, runner.UnhealthyInterval = 1, &pause
	file := &config.File{Config: config.Config{Concurrent: 1, ShutdownTimeout: c.Int("shutdown-timeout"), Runners: []*config.Runner{runner}}}
	if err := file.Validate(); err != nil {
		return fmt.Errorf("checking the flags: %w", err)
	}
	systemID, err := config.SystemID(filepath.Join(dir, "config.toml"))
	if err != nil {
		if systemID == "" {
			return err
		}
		log.WithError(err).Warning("the system id will be another one at the next start")
	}
	registry := prometheus.NewRegistry()
	metrics := manager.NewMetrics(registry, env.Version)
	client := network.New(network.Options{
		Version: env.Version, CertsDir: config.DefaultCertsDir(), ConnectionMaxAge: config.DefaultMaxAge, Logger: log, Recorder: metrics,
	})
	defer client.Close()
	executors, _ := providers(env, log, registry, dir)
	if _, known := executors[runner.Executor]; !known {
		return fmt.Errorf("executor %q is not known: use docker or docker-autoscaler", runner.Executor)
	}
	host, err := os.Hostname()
	if err != nil {
		log.WithError(err).Warning("the name of this machine is unknown")
	}
	bound := &singleBound{
		max: c.Int("max-builds"), wait: time.Duration(c.Int("wait-timeout")) * time.Second,
		reached: make(chan struct{}),
	}
	m := manager.New(manager.Options{
		File: file, Providers: executors, Network: client, RemoteCache: newCaches(log, registry).of,
		Log: log, Version: env.Version, Hostname: host, SystemID: systemID, Metrics: metrics,
		Secrets: redacting(log), Apply: func(file *config.File) { redacting(log).Learn(file.Secrets()) },
		Allow: bound.allow, JobEnded: bound.jobEnded,
	})
	received, stop := watchSignals(log)
	defer stop()
	ended := make(chan struct{})
	defer close(ended)
	return m.Run(bound.signals(received, ended))
}

// singleBound ends a single runner after a number of jobs, or after a time without any.
type singleBound struct {
	max  int
	wait time.Duration

	mu   sync.Mutex
	done int
	// last is when a job ended last, or when the first could be asked for.
	last time.Time
	once sync.Once
	// reached is closed when there is to be no further job.
	reached chan struct{}
}

// allow says whether another job may be asked for.
func (b *singleBound) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() {
		b.last = time.Now()
	}
	over := b.max > 0 && b.done >= b.max || b.wait > 0 && time.Since(b.last) >= b.wait
	if over {
		b.once.Do(func() { close(b.reached) })
	}
	return !over
}

func (b *singleBound) jobEnded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done++
	b.last = time.Now()
}

// signals are those of the process, and a graceful stop when the bound is reached, until ended is closed.
func (b *singleBound) signals(received <-chan manager.Signal, ended <-chan struct{}) <-chan manager.Signal {
	out := make(chan manager.Signal)
	go func() {
		reached := b.reached
		for {
			var next manager.Signal
			select {
			case <-ended:
				return
			case next = <-received:
			case <-reached:
				reached = nil
				next = manager.Signal{Kind: manager.Graceful, Name: "no further job wanted"}
			}
			select {
			case out <- next:
			case <-ended:
				return
			}
		}
	}()
	return out
}
