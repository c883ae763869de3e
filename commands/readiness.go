package commands

import (
	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

// notifyInit tells an init system that asked for it (by NOTIFY_SOCKET) how far the process is. The unit
// that install writes does not ask; one of Type=notify does.
func notifyInit(log *logrus.Logger, state manager.ProcessState) {
	message := "STATUS=" + string(state)
	switch state {
	case manager.Starting:
		return
	case manager.Running:
		message = daemon.SdNotifyReady + "\n" + message
	case manager.GracefulShutdown, manager.ForcefulShutdown:
		message = daemon.SdNotifyStopping + "\n" + message
	}
	if _, err := daemon.SdNotify(false, message); err != nil {
		log.WithError(err).Warning("The init system was not told of the process's state")
	}
}
