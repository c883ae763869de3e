package commands

import (
	"os"
	"syscall"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

func handledSignals() []os.Signal {
	return []os.Signal{os.Interrupt, syscall.SIGTERM}
}

func kindOf(s os.Signal, first bool) manager.SignalKind {
	if isStop(s) && !first {
		return manager.Forceful
	}
	return manager.Graceful
}

func isDump(os.Signal) bool { return false }
