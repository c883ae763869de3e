package pluginhost

import (
	"os"
	"syscall"
)

// attached puts the process in a process group of its own, out of reach of a console's Ctrl-C. That it
// ends with this one rests on its standard input.
func attached() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// killTree ends the process.
func killTree(p *os.Process) { _ = p.Kill() }
