package commands

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/kardianos/service"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/serviceunit"
)

// installation is what the user wants installed, and where.
type installation struct {
	OS, Platform string
	Root         bool
	// Program is the file to run.
	Program string

	Name, WorkingDir, Config string
	// User runs the jobs of shell executors, InitUser the service itself.
	User, InitUser, Password string
	PerUser                  bool
	// Syslog is nil if the user left it open.
	Syslog *bool

	homeOf func(user string) (string, error)
}

// The platforms whose services we describe ourselves. To the others their description is enough.
const (
	platformSystemd = "linux-systemd"
	platformOpenRC  = "linux-openrc"
	platformSysV    = "unix-systemv"
	platformLaunchd = "darwin-launchd"
)

// describe checks what the user wants and completes it; it returns the service for the init system.
func (i *installation) describe() (*service.Config, error) {
	home, err := i.checkUsers()
	if err != nil {
		return nil, err
	}
	if i.Config == "" {
		i.Config = filepath.Join(home, "config.toml")
	}
	for _, path := range []*string{&i.Config, &i.WorkingDir} {
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, fmt.Errorf("finding the absolute path of %s: %w", *path, err)
		}
	}
	unit := serviceunit.Service{
		Name: i.Name, Description: "GitLab Runner", Executable: i.Program, Arguments: i.arguments(),
		User: i.InitUser, Home: home, PerUser: i.PerUser, LogDir: i.logDir(home),
	}
	if err := unit.Check(); err != nil {
		return nil, fmt.Errorf("installing the service: %w", err)
	}
	options, err := i.options(unit)
	if err != nil {
		return nil, fmt.Errorf("installing the service: %w", err)
	}
	description := &service.Config{
		Name: i.Name, DisplayName: i.Name, Description: unit.Description,
		Executable: i.Program, Arguments: unit.Arguments, UserName: i.InitUser, Option: options,
	}
	if i.OS == "windows" {
		description.UserName = i.User
	}
	return description, nil
}

// checkUsers returns the home directory of the account that the service runs as, as far as it matters.
func (i *installation) checkUsers() (home string, err error) {
	switch {
	case i.OS == "windows":
		return "", nil
	case i.User != "" && i.InitUser != "":
		return "", errors.New("--user and --init-user exclude each other: a service that does not run as root cannot run jobs as somebody else")
	case i.Root && i.User == "" && i.InitUser == "":
		return "", errors.New("whose jobs are these? Give --user to run the jobs of shell executors as that user, or --init-user to run the whole service as one")
	case i.InitUser != "":
		if home, err = i.homeOf(i.InitUser); err != nil {
			return "", fmt.Errorf("--init-user: %w", err)
		}
	case !i.Root && i.OS == "darwin":
		if home, err = i.homeOf(""); err != nil {
			return "", fmt.Errorf("finding the home directory: %w", err)
		}
	}
	return home, nil
}

func (i *installation) arguments() []string {
	args := []string{"run", "--config", i.Config, "--working-directory", i.WorkingDir, "--service", i.Name}
	syslog := i.Platform != platformSystemd
	if i.Syslog != nil {
		syslog = *i.Syslog
	}
	if syslog {
		args = append(args, "--syslog")
	}
	if i.User != "" && i.OS != "windows" {
		args = append(args, "--user", i.User)
	}
	return args
}

// logDir is where init systems that have no log of their own put what the runner prints.
func (i *installation) logDir(home string) string {
	if i.OS == "darwin" && !i.Root {
		return home
	}
	return "/var/log"
}

// options hand the texts of our own to the library that installs them.
func (i *installation) options(unit serviceunit.Service) (service.KeyValue, error) {
	options := service.KeyValue{}
	var key string
	var render func() (string, error)
	switch i.Platform {
	case platformSystemd:
		key, render = "SystemdScript", unit.Systemd
	case platformOpenRC:
		key, render = "OpenRCScript", unit.OpenRC
	case platformSysV:
		key, render = "SysvScript", unit.SysV
	case platformLaunchd:
		key, render = "LaunchdConfig", unit.Launchd
	default:
		if i.Password != "" {
			options["Password"] = i.Password
		}
		return options, nil
	}
	text, err := render()
	if err != nil {
		return nil, err
	}
	// The library would find nothing to put in; a lone brace is no action to it.
	options[key] = strings.TrimSpace(text) + "\n"
	options["UserService"] = i.PerUser
	return options, nil
}
