package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/fleeting/fleeting/connector"
	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/errortracking"
	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/statuspage"
	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/commands/session"
	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker"
	dockerautoscaler "gitlab.com/gitlab-org/gitlab-runner/executors/docker/autoscaler"
	"gitlab.com/gitlab-org/gitlab-runner/network"
)

const (
	flagListenAddress = "listen-address"
	flagStatusRemote  = "status-remote"
	flagService       = "service"
	flagWorkingDir    = "working-directory"
	flagUser          = "user"
)

func runCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "run jobs of all runners in the configuration",
		Description: "Example:\n" +
			"  gitlab-runner run --config /etc/gitlab-runner/config.toml\n\n" +
			"SIGQUIT waits for running jobs, SIGTERM and SIGINT abort them, SIGHUP loads\n" +
			"the configuration again.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringFlag{Name: flagListenAddress, Usage: "serve metrics on `ADDRESS`", Sources: fromEnv("LISTEN_ADDRESS")},
			&cli.BoolFlag{Name: flagStatusRemote, Usage: "show /status on an address that is not loopback too", Sources: fromEnv("STATUS_REMOTE")},
			&cli.StringFlag{Name: flagService, Aliases: []string{"n"}, Value: defaultServiceName, Usage: "`NAME` of the system service"},
			&cli.StringFlag{Name: flagWorkingDir, Aliases: []string{"d"}, Usage: "work in `DIR`"},
			&cli.StringFlag{Name: flagUser, Aliases: []string{"u"}, Usage: "run jobs of shell executors as `USER`; without effect on docker"},
			&cli.BoolFlag{Name: flagSyslog, HideDefault: true, Usage: "log to the system's log, too", Sources: fromEnv("LOG_SYSLOG")},
		},
		Action: func(ctx context.Context, c *cli.Command) error {
			if underServiceManager() {
				return serve(log, c.String(flagService), func(signals <-chan manager.Signal) error {
					return run(ctx, env, log, c, signals)
				})
			}
			signals, stop := watchSignals(log)
			defer stop()
			return run(ctx, env, log, c, signals)
		},
	}
}

// run makes the manager and everything it needs, and works until a signal ends it.
func run(_ context.Context, env Environment, log *logrus.Logger, c *cli.Command, signals <-chan manager.Signal) (err error) {
	if c.Bool(flagSyslog) {
		if system, err := newSystemLog(c.String(flagService), redacting(log).Hide); err != nil {
			log.WithError(err).Warning("The log goes to standard error only")
		} else {
			log.AddHook(system)
		}
	}
	if dir := c.String(flagWorkingDir); dir != "" {
		if err := os.Chdir(dir); err != nil {
			return fmt.Errorf("changing to the working directory: %w", err)
		}
	}
	v := env.Version
	announce(env, log, c)

	path := c.String(flagConfig)
	file, err := config.Load(path)
	if err != nil {
		return err
	}
	systemID, err := config.SystemID(path)
	if err != nil {
		if systemID == "" {
			return err
		}
		log.WithError(err).Warning("the system id will be another one at the next start")
	}
	hostname, err := os.Hostname()
	if err != nil {
		log.WithError(err).Warning("the name of this machine is unknown")
	}

	tracker := errortracking.New(errortracking.Options{Release: v.Version, SystemID: systemID, Hide: redacting(log).Hide, Log: log})
	log.AddHook(tracker)
	defer func() {
		if err != nil {
			tracker.Fatal(err)
		}
		tracker.Close()
	}()

	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := manager.NewMetrics(registry, v)
	log.AddHook(metrics)
	client := network.New(network.Options{
		Version: v, CertsDir: config.DefaultCertsDir(), ConnectionMaxAge: config.DefaultMaxAge, Logger: log, Recorder: metrics,
	})
	defer client.Close()

	sessions, err := listenForSessions(file, log)
	if err != nil {
		return err
	}
	if sessions != nil {
		defer sessions.Close()
	}
	remote := newCaches(log, registry)
	account := &usage{log: log}
	defer account.close()
	executors, fleets := providers(env, log, registry, filepath.Dir(path))
	m := manager.New(manager.Options{
		File:        file,
		ConfigPath:  path,
		Providers:   executors,
		Fleets:      fleets,
		Network:     client,
		RemoteCache: remote.of,
		Log:         log,
		Version:     v,
		Hostname:    hostname,
		SystemID:    systemID,
		Metrics:     metrics,
		Sessions:    sessions,
		Account:     account.record,
		Progress:    func(state manager.ProcessState) { notifyInit(log, state) },
		Secrets:     redacting(log),
		Apply: func(file *config.File) {
			redacting(log).Learn(file.Secrets())
			remote.forget()
			applyLogging(log, file, c)
			if err := tracker.Use(file.SentryDSN); err != nil {
				log.WithError(err).Error("sentry_dsn has no effect")
			}
			account.follow(file)
		},
	})

	address := c.String(flagListenAddress)
	if address == "" {
		address = m.Config().ListenAddress
	}
	if address == "" {
		log.Info("listen_address not defined, metrics & debug endpoints disabled")
	} else {
		page := statuspage.Options{Remote: c.Bool(flagStatusRemote) || m.Config().StatusRemote, Hostname: hostname}
		listener, err := listen(address, m, registry, page, log)
		if err != nil {
			return err
		}
		defer listener.close()
	}

	err = m.Run(signals)
	if errors.Is(err, manager.ErrForcedExit) || errors.Is(err, manager.ErrShutdownTimeout) {
		log.Error(`Graceful shutdown not finished properly. To gracefully clean up running plugins please use SIGQUIT (ctrl-\) instead of SIGINT (ctrl-c)`)
	}
	return err
}

// listenForSessions starts the server of web terminals; nil without an address to listen on.
func listenForSessions(file *config.File, log *logrus.Logger) (*session.Server, error) {
	server := file.SessionServer
	if server.ListenAddress == "" {
		log.Info("[session_server].listen_address not defined, session endpoints disabled")
		return nil, nil
	}
	return session.Listen(session.Options{ListenAddress: server.ListenAddress, AdvertiseAddress: server.AdvertiseAddress, Log: log})
}

// providers are the executors of this program, and the one among them that has instances.
func providers(env Environment, log *logrus.Logger, registry prometheus.Registerer, configDir string) (map[string]common.ExecutorProvider, manager.Fleets) {
	local := docker.NewProvider(docker.Options{Version: env.Version, Log: log})
	autoscaled := dockerautoscaler.NewProvider(local, dockerautoscaler.Options{
		Plugins:  dockerautoscaler.PluginProcesses{},
		Connect:  connector.Dial,
		Log:      log,
		Metrics:  registry,
		StateDir: filepath.Join(configDir, ".taskscaler"),
	})
	out := map[string]common.ExecutorProvider{}
	for _, provider := range []common.ExecutorProvider{local, autoscaled} {
		out[provider.Name()] = provider
	}
	return out, autoscaled
}

// applyLogging follows the configuration in what the command line left open.
func applyLogging(log *logrus.Logger, file *config.File, c *cli.Command) {
	if c.String(flagLogLevel) == "" && !c.Bool(flagDebug) {
		level := file.LogLevel
		if level == "" {
			level = logrus.InfoLevel.String()
		}
		if err := setLevel(log, level); err != nil {
			log.WithError(err).Warning("log_level has no effect")
		}
	}
	if c.String(flagLogFormat) == "" {
		if err := setFormat(log, file.LogFormat); err != nil {
			log.WithError(err).Warning("log_format has no effect")
		}
	}
}
