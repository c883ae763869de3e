package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/kardianos/service"
	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

const (
	defaultServiceName = "gitlab-runner"

	flagInitUser    = "init-user"
	flagUserService = "user-service"
	flagSyslog      = "syslog"
)

// InitSystem is what keeps services running on this machine.
type InitSystem interface {
	// Platform is the init system's name, such as "linux-systemd".
	Platform() string
	// Service returns the service of a description, installed or not.
	Service(description *service.Config) (service.Service, error)
}

// localInit is this machine's init system.
type localInit struct{}

func (localInit) Platform() string { return service.Platform() }

func (localInit) Service(description *service.Config) (service.Service, error) {
	return service.New(new(serviceProgram), description)
}

// serviceCommands are those that manage the system service.
func serviceCommands(env Environment, log *logrus.Logger) []*cli.Command {
	init := env.Init
	if init == nil {
		init = localInit{}
	}
	commands := []*cli.Command{installCommand(env, log, init)}
	for _, c := range []struct {
		name, usage string
		do          func(service.Service) error
	}{
		{"uninstall", "remove the system service", service.Service.Uninstall},
		{"start", "start the system service", service.Service.Start},
		{"stop", "stop the system service", service.Service.Stop},
		{"restart", "restart the system service", service.Service.Restart},
		{"status", "show whether the system service runs", nil},
	} {
		commands = append(commands, &cli.Command{
			Name: c.name, Usage: c.usage,
			Description: "Example:\n  gitlab-runner " + c.name,
			Flags:       serviceFlags(),
			Action: func(_ context.Context, cmd *cli.Command) error {
				name := cmd.String(flagService)
				s, err := init.Service(&service.Config{Name: name, Option: service.KeyValue{"UserService": perUser(cmd)}})
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if c.do == nil {
					return showStatus(env, name, s)
				}
				if err := c.do(s); err != nil {
					return fmt.Errorf("failed to %s %s: %w", c.name, name, err)
				}
				return nil
			},
		})
	}
	return commands
}

// serviceFlags are those of every service command. Root has no service of its own user.
func serviceFlags() []cli.Flag {
	flags := []cli.Flag{
		&cli.StringFlag{Name: flagService, Aliases: []string{"n"}, Value: defaultServiceName, Usage: "`NAME` of the service"},
	}
	if offersUserService() {
		flags = append(flags, &cli.BoolFlag{Name: flagUserService, HideDefault: true, Usage: "manage a service of this user (systemd only)"})
	}
	return flags
}

func offersUserService() bool { return runtime.GOOS == "linux" && os.Getuid() != 0 }

// perUser says whether the service is one of a user. Without root's rights launchd knows no other.
func perUser(c *cli.Command) bool {
	if runtime.GOOS == "darwin" {
		return os.Getuid() != 0
	}
	return offersUserService() && c.Bool(flagUserService)
}

// showStatus prints whether a service runs. One that does not is an exit code of its own making: what
// is to be said about it has been said.
func showStatus(env Environment, name string, s service.Service) error {
	status, err := s.Status()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == notRunning:
		status = service.StatusStopped
	case err != nil:
		fmt.Fprintf(env.Stderr, "%s: %v\n", name, err)
		return cli.Exit("", 1)
	}
	switch status {
	case service.StatusRunning:
		_, err := fmt.Fprintf(env.Stdout, "%s: Service is running\n", name)
		return err
	case service.StatusStopped:
		fmt.Fprintf(env.Stderr, "%s: Service has stopped\n", name)
	default:
		fmt.Fprintf(env.Stderr, "%s: Service status unknown\n", name)
	}
	return cli.Exit("", 1)
}

// notRunning is the exit code of init scripts for a service that is installed and does not run.
const notRunning = 3

func installCommand(env Environment, log *logrus.Logger, init InitSystem) *cli.Command {
	flags := append(serviceFlags(),
		configFlag(),
		&cli.StringFlag{Name: flagWorkingDir, Aliases: []string{"d"}, Usage: "work in `DIR` (default: this one)"},
		&cli.BoolFlag{Name: flagSyslog, HideDefault: true, Usage: "log to the system's log, too (default: yes, but not with systemd)"},
	)
	root := os.Getuid() == 0
	if root {
		flags = append(flags, &cli.StringFlag{Name: flagUser, Aliases: []string{"u"}, Usage: "run jobs of shell executors as `USER`"})
	}
	if root && runtime.GOOS == "linux" {
		flags = append(flags, &cli.StringFlag{Name: flagInitUser, Aliases: []string{"i"}, Usage: "run the service itself as `USER`"})
	}
	if runtime.GOOS == "windows" {
		flags = append(flags,
			&cli.StringFlag{Name: flagUser, Aliases: []string{"u"}, Usage: "run the service as `USER`"},
			&cli.StringFlag{Name: flagPassword, Aliases: []string{"p"}, Usage: "the `PASSWORD` of the service's account"})
	}
	return &cli.Command{
		Name:  "install",
		Usage: "install the system service",
		Description: "Examples:\n" +
			"  gitlab-runner install --user gitlab-runner\n" +
			"  gitlab-runner install --init-user gitlab-runner --config /srv/config.toml",
		Flags: flags,
		Action: func(_ context.Context, c *cli.Command) error {
			program, err := os.Executable()
			if err != nil {
				return fmt.Errorf("finding this program's file: %w", err)
			}
			i := installation{
				OS: runtime.GOOS, Platform: init.Platform(), Root: root, Program: program,
				Name: c.String(flagService), WorkingDir: c.String(flagWorkingDir), Config: c.String(flagConfig),
				User: c.String(flagUser), InitUser: c.String(flagInitUser), Password: c.String(flagPassword),
				PerUser: perUser(c), homeOf: homeOf,
			}
			if i.InitUser != "" && !c.IsSet(flagConfig) {
				i.Config = ""
			}
			if c.IsSet(flagSyslog) {
				syslog := c.Bool(flagSyslog)
				i.Syslog = &syslog
			}
			return install(log, init, i)
		},
	}
}

func install(log *logrus.Logger, init InitSystem, i installation) error {
	description, err := i.describe()
	if err != nil {
		return err
	}
	s, err := init.Service(description)
	if err != nil {
		return fmt.Errorf("installing %s: %w", i.Name, err)
	}
	if err := i.makeConfig(); err != nil {
		return err
	}
	if err := s.Install(); err != nil {
		if errors.Is(err, os.ErrPermission) && offersUserService() && !i.PerUser {
			return fmt.Errorf("failed to install %s: %w: use sudo, or --%s", i.Name, err, flagUserService)
		}
		return fmt.Errorf("failed to install %s: %w", i.Name, err)
	}
	log.WithField("service", i.Name).Info("The service is installed: gitlab-runner start starts it")
	return nil
}

// makeConfig writes an empty configuration if there is none, for the account that reads it.
func (i *installation) makeConfig() error {
	if _, err := os.Stat(i.Config); !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	_, err := os.Stat(filepath.Dir(i.Config))
	newDir := errors.Is(err, os.ErrNotExist)
	file, err := config.Load(i.Config)
	if err != nil {
		return err
	}
	if err := file.Save(); err != nil {
		return err
	}
	if i.InitUser == "" {
		return nil
	}
	paths := []string{i.Config}
	if newDir {
		paths = append(paths, filepath.Dir(i.Config))
	}
	for _, path := range paths {
		if err := giveTo(i.InitUser, path); err != nil {
			return fmt.Errorf("giving the configuration to %s: %w", i.InitUser, err)
		}
	}
	return nil
}

func giveTo(name, path string) error {
	account, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(account.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}

// homeOf returns an account's home directory.
func homeOf(name string) (string, error) {
	account, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return account.HomeDir, nil
}
