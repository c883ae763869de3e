package commands

import (
	"fmt"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
)

// startExtension is what the init system is asked to wait for longer, while entries are verified at the start. Each
// call of notifyInit asks anew; the verification has a timeout of its own.
const startExtension = 3 * manager.ProgressInterval

// notifyInit tells an init system that asked for it (by NOTIFY_SOCKET) how far the process is. The unit
// that install writes does not ask; one of Type=notify does. It is ready when jobs are asked for.
func notifyInit(log *logrus.Logger, state manager.ProcessState) {
	message := "STATUS=" + string(state)
	switch state {
	case manager.Starting:
		message = fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\n%s", startExtension.Microseconds(), message)
	case manager.Running:
		message = daemon.SdNotifyReady + "\n" + message
	case manager.GracefulShutdown, manager.ForcefulShutdown:
		message = daemon.SdNotifyStopping + "\n" + message
	}
	if _, err := daemon.SdNotify(false, message); err != nil {
		log.WithError(err).Warning("The init system was not told of the process's state")
	}
}
