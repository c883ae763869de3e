package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/supervisor"
	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

const (
	flagGRPCListen         = "grpc-listen"
	flagTerminationTimeout = "process-termination-timeout"

	defaultGRPCListen         = "tcp://localhost:7777"
	defaultTerminationTimeout = 10 * time.Second
)

func wrapperCommand(env Environment, log *logrus.Logger) *cli.Command {
	return &cli.Command{
		Name:      "wrapper",
		Usage:     "run another gitlab-runner that is stopped over gRPC",
		ArgsUsage: "-- COMMAND [ARGUMENT...]",
		Description: "Example:\n" +
			"  gitlab-runner wrapper --grpc-listen unix:///run/gitlab-runner-wrapper.sock \\\n" +
			"    -- run --config /etc/gitlab-runner/config.toml\n\n" +
			"COMMAND is one of this program. The wrapper stays when it has ended, to tell so.\n" +
			"SIGTERM, SIGINT and SIGQUIT end both: COMMAND gets SIGTERM, and is killed when\n" +
			"the time is over or at a second signal. SIGHUP is passed on. Who can connect can\n" +
			"stop the runner; docs/service.md has the gRPC service.",
		// From the command's name on, flags are the command's.
		StopOnNthArg: new(1),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: flagGRPCListen, Value: defaultGRPCListen, DefaultText: defaultGRPCListen, Usage: "serve gRPC on `ADDRESS`, tcp://HOST:PORT or unix:///PATH"},
			&cli.DurationFlag{Name: flagTerminationTimeout, Value: defaultTerminationTimeout, DefaultText: defaultTerminationTimeout.String(), Usage: "kill COMMAND if it still runs `DURATION` after SIGTERM"},
		},
		Action: func(ctx context.Context, c *cli.Command) error { return wrap(ctx, env, log, c) },
	}
}

// wrap supervises a process of this program until a signal ends it.
func wrap(ctx context.Context, env Environment, log *logrus.Logger, c *cli.Command) error {
	args := c.Args().Slice()
	if len(args) > 0 && filepath.Base(args[0]) == c.Root().Name {
		// The whole command line of the runner, as an operator has it at hand.
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("there is nothing to run: add -- and a command, such as run")
	}
	timeout := c.Duration(flagTerminationTimeout)
	if timeout < 0 {
		return fmt.Errorf("--%s is %s, and must not be negative", flagTerminationTimeout, timeout)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	announcePlatform(env, log)
	// From here on: a signal that comes earlier than the process must end it, too.
	signals, stop := watchSignals(log)
	defer stop()
	listener, err := supervisor.Listen(c.String(flagGRPCListen), log)
	if err != nil {
		return err
	}
	process := supervisor.New(supervisor.Options{
		Path: program, Args: args, Env: childEnviron(os.Environ()), Stdout: env.Stdout, Stderr: env.Stderr, Log: log,
	})
	server := supervisor.Serve(listener, process, log)
	defer server.Close()
	if err := process.Start(); err != nil {
		return err
	}
	notifyInit(log, manager.Running)
	supervise(ctx, process, signals, log)
	notifyInit(log, manager.ForcefulShutdown)
	return terminate(process, timeout, signals)
}

// childEnviron is this environment without what is the wrapper's own: its line to the init system, as a process that
// said there that it ends would have the wrapper ended before its jobs are done, and the file of its profile.
func childEnviron(environ []string) []string {
	return slices.DeleteFunc(environ, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return name == "NOTIFY_SOCKET" || name == envCPUProfile
	})
}

// supervise returns when a signal, or ctx, says that it is over.
func supervise(ctx context.Context, process *supervisor.Process, signals <-chan manager.Signal, log *logrus.Logger) {
	for {
		select {
		case s := <-signals:
			if s.Kind != manager.Reload {
				log.WithField("signal", s.Name).Warning("The wrapper ends, and the process with it")
				return
			}
			if err := process.Reload(); err != nil {
				log.WithError(err).Warning("The configuration was not loaded again")
			}
		case <-ctx.Done():
			return
		}
	}
}

// terminate ends the process, at once if a further signal comes.
func terminate(process *supervisor.Process, timeout time.Duration, signals <-chan manager.Signal) error {
	ctx, hurry := context.WithCancelCause(context.Background())
	defer hurry(nil)
	ended := make(chan error)
	go func() { ended <- process.Terminate(ctx, timeout) }()
	for {
		select {
		case err := <-ended:
			return err
		case s := <-signals:
			if s.Kind != manager.Reload {
				hurry(fmt.Errorf("the wrapper was told a second time to end, by signal %q", s.Name))
			}
		}
	}
}
