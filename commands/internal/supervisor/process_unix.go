//go:build unix

package supervisor

import (
	"os"
	"syscall"
)

func askToFinish(p *os.Process) error { return p.Signal(syscall.SIGQUIT) }

func askToAbort(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

func askToReload(p *os.Process) error { return p.Signal(syscall.SIGHUP) }

// killed says what killGroup does.
const killed = "the process was killed, and its process group with it"

// killGroup kills the process and those that it started and that are in its group.
func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }

// nobodyListens says whether an attempt to connect failed because no process is there to answer.
func nobodyListens(err error) bool { return isErrno(err, syscall.ECONNREFUSED) }
