package supervisor

import (
	"os"
	"syscall"
)

func askToFinish(*os.Process) error { return ErrNoSignals }

func askToAbort(*os.Process) error { return ErrNoSignals }

func askToReload(*os.Process) error { return ErrNoSignals }

// killed says what killGroup does.
const killed = "the process was killed"

// killGroup kills the process. What it started is left to its own means: plugins end with their host.
func killGroup(p *os.Process) error { return p.Kill() }

// attached puts the process in a group of its own, out of reach of a console's Ctrl-C.
func attached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// wsaConnectionRefused is the number of the error; the standard library does not name it.
const wsaConnectionRefused = syscall.Errno(10061)

// nobodyListens says whether an attempt to connect failed because no process is there to answer.
func nobodyListens(err error) bool { return isErrno(err, wsaConnectionRefused) }
