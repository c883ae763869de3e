package commands

import (
	"fmt"
	"os"
	"os/user"
	"runtime"

	"github.com/sirupsen/logrus"
	"github.com/urfave/cli/v3"
)

// announce logs what runs here and in which mode, and warns of a value that was meant for a switch.
func announce(env Environment, log *logrus.Logger, c *cli.Command) {
	announcePlatform(env, log)
	for _, arg := range c.Args().Slice() {
		if arg == "true" || arg == "false" {
			log.Warningf("The argument %q has no effect: a switch is turned off by --switch=false, in one word", arg)
		}
	}
	if runtime.GOOS == "windows" {
		return
	}
	if os.Getuid() == 0 {
		log.Info("Running in system-mode.")
		return
	}
	log.Warning("Running in user-mode.")
	if runtime.GOOS != "darwin" && c.Name != "run" && c.Name != "run-single" {
		log.Warning("The user-mode requires you to manually start builds processing: gitlab-runner run")
	}
	log.Warning("Use sudo for system-mode: sudo gitlab-runner...")
}

func announcePlatform(env Environment, log *logrus.Logger) {
	v := env.Version
	log.WithFields(logrus.Fields{
		"arch": v.Arch, "os": v.OS, "pid": os.Getpid(), "revision": v.Revision, "version": v.Version,
	}).Info("Runtime platform")
}

// setHome sets HOME from the user database where the environment has none, as under some init systems.
func setHome() error {
	if os.Getenv("HOME") != "" || runtime.GOOS == "windows" {
		return nil
	}
	account, err := user.Current()
	if err != nil {
		return fmt.Errorf("HOME is not set, and finding it failed: %w", err)
	}
	return os.Setenv("HOME", account.HomeDir)
}
