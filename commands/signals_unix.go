//go:build !windows

package commands

import (
	"os"
	"syscall"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

func handledSignals() []os.Signal {
	return []os.Signal{syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP}
}

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
