// Package commands is the command line: one file per command, each of which reads flags, makes the parts
// and sets them to work. What they do is in the packages they use.
//
// Only main imports it.
package commands

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

// Environment is what commands work with.
type Environment struct {
	Version version.Info
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	// Init is what keeps services running; nil is this machine's.
	Init InitSystem
}

// The names of flags that several commands have.
const (
	flagConfig    = "config"
	flagDebug     = "debug"
	flagLogLevel  = "log-level"
	flagPassword  = "password"
	flagJSON      = "json"
	flagLogFormat = "log-format"

	flagCPUProfile = "cpuprofile"
	envCPUProfile  = "CPU_PROFILE"
)

// Program is the command line of the program.
type Program struct {
	*cli.Command
	log *logrus.Logger
}

// New returns the program.
func New(env Environment) Program {
	log := newLogger(env.Stderr)
	if err := setHome(); err != nil {
		log.WithError(err).Warning("Paths in the home directory cannot be found")
	}
	profile := &cpuProfile{}
	app := &cli.Command{
		Name:                  "gitlab-runner",
		Usage:                 "run GitLab CI/CD jobs",
		Version:               env.Version.Version,
		HideVersion:           true,
		EnableShellCompletion: true,
		ConfigureShellCompletionCommand: func(c *cli.Command) {
			c.Hidden = false
			c.Usage = "print a script for bash, zsh, fish or pwsh"
			c.Description = "Example:\n  source <(gitlab-runner completion bash)"
			fitHelp(c, []string{"gitlab-runner"})
		},
		// An occurrence of a flag is one element of a list, commas included.
		DisableSliceFlagSeparator: true,
		Reader:                    env.Stdin,
		Writer:                    env.Stdout,
		ErrWriter:                 env.Stderr,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: flagDebug, Usage: "log at debug level", Sources: fromEnv("RUNNER_DEBUG")},
			&cli.StringFlag{Name: flagLogLevel, Aliases: []string{"l"}, Usage: "log at `LEVEL`: debug, info, warn, error, fatal, panic", Sources: fromEnv("LOG_LEVEL")},
			&cli.StringFlag{Name: flagLogFormat, Usage: "log in `FORMAT`: runner, text, json", Sources: fromEnv("LOG_FORMAT")},
			&cli.StringFlag{Name: flagCPUProfile, Usage: "write a profile of the CPU's use to `FILE` until the command ends", Sources: fromEnv(envCPUProfile), Local: true},
			&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print the version", Local: true},
		},
		Before: func(ctx context.Context, c *cli.Command) (context.Context, error) {
			return ctx, errors.Join(setUpLogging(log, c), profile.start(c.String(flagCPUProfile)))
		},
		After: func(context.Context, *cli.Command) error { return profile.stop() },
		Action: func(_ context.Context, c *cli.Command) error {
			if c.Bool("version") {
				_, err := fmt.Fprint(env.Stdout, env.Version.Extended())
				return err
			}
			if c.Args().Present() {
				return fmt.Errorf("unknown command %q: see gitlab-runner --help", c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
		// Errors are printed once, by main.
		ExitErrHandler: func(context.Context, *cli.Command, error) {},
		Commands: append([]*cli.Command{
			runCommand(env, log),
			execCommand(env, log),
			registerCommand(env, log),
			verifyCommand(env, log),
			unregisterCommand(env, log),
			runSingleCommand(env, log),
			wrapperCommand(env, log),
			resetTokenCommand(env, log),
			listCommand(env, log),
			lintCommand(env),
			fleetCommand(env),
			configCommand(env),
			doctorCommand(env, log),
			fleetingCommand(env, log),
			healthCheckCommand(env),
		}, serviceCommands(env, log)...),
	}
	fitHelp(app, nil)
	return Program{Command: app, log: log}
}

// ExitCode tells of an error, once, and returns the process's exit code. The error is the last entry of the log, in its
// format, without its secrets, and in the system's log if that is written.
func (p Program) ExitCode(err error) int {
	if err == nil {
		return 0
	}
	code := 1
	var exit cli.ExitCoder
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if text := err.Error(); text != "" {
		tellFatal(p.log, text)
	}
	return code
}

// tellFatal logs why the process ends, whatever the level of the log.
func tellFatal(log *logrus.Logger, text string) {
	if !log.IsLevelEnabled(logrus.FatalLevel) {
		log.SetLevel(logrus.FatalLevel)
	}
	log.Log(logrus.FatalLevel, text)
}

func configFlag() cli.Flag {
	return &cli.StringFlag{
		Name: flagConfig, Aliases: []string{"c"}, Value: config.DefaultPath(),
		Usage: "read the configuration from `FILE`", Sources: fromEnv("CONFIG_FILE"),
	}
}

// setUpLogging applies the flags, which win over the configuration file.
func setUpLogging(log *logrus.Logger, c *cli.Command) error {
	if format := c.String(flagLogFormat); format != "" {
		if err := setFormat(log, format); err != nil {
			return err
		}
	}
	level := c.String(flagLogLevel)
	if c.Bool(flagDebug) {
		level = "debug"
	}
	return setLevel(log, level)
}
