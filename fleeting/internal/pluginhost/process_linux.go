package pluginhost

import (
	"os"
	"syscall"
)

// attached has the kernel kill the process when this one ends, and puts it in a process group of its
// own, out of reach of the signals that a terminal sends.
func attached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// killTree ends the process group of a process.
func killTree(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
