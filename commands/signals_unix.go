//go:build !windows

package commands

import (
	"os"
	"syscall"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

func handledSignals() []os.Signal {
	return []os.Signal{syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1}
}

func isDump(s os.Signal) bool { return s == syscall.SIGUSR1 }

func kindOf(s os.Signal, _ bool) manager.SignalKind {
	switch {
	case s == syscall.SIGHUP:
		return manager.Reload
	case isStop(s):
		return manager.Forceful
	default:
		return manager.Graceful
	}
}
