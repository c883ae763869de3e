//go:build unix && !linux

package pluginhost

import (
	"os"
	"syscall"
)

// attached puts the process in a process group of its own, out of reach of the signals that a
// terminal sends. That it ends with this one rests on its standard input.
func attached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// killTree ends the process group of a process.
func killTree(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
